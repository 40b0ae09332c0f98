import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { onTestFinished } from 'vitest';
import { temporaryDirectory } from './cli.ts';
import { freePorts, type Supervised, supervise } from './servers.ts';

const VERSIONS = '/usr/lib/postgresql';
const START_MS = 60_000;
const SETTINGS = [
  'wal_level=replica',
  'unix_socket_directories=',
  'max_connections=200',
  'fsync=off',
  'shared_buffers=16MB',
];

/** Directory of an installed PostgreSQL with pg_basebackup, which the embedded one lacks. */
const installation = existsSync(VERSIONS)
  ? readdirSync(VERSIONS)
      .map((version) => join(VERSIONS, version, 'bin'))
      .filter((bin) => ['postgres', 'initdb', 'pg_basebackup'].every((name) => existsSync(join(bin, name))))
      .at(-1)
  : undefined;

/** Why servers that can be copied and promoted cannot be started here; undefined if they can. */
export const noReplicas =
  installation === undefined
    ? `no PostgreSQL with pg_basebackup in ${VERSIONS}: install postgresql`
    : process.getuid?.() !== 0
      ? 'the suite starts PostgreSQL as another user, and needs root for that'
      : undefined;
if (noReplicas) process.stderr.write(`\n*** TESTS SKIPPED, ${noReplicas} ***\n\n`);

/** A PostgreSQL server with a directory that can be copied, until the test ends. */
export interface Replica {
  readonly url: string;
  start(): Promise<void>;
  /** `immediate` ends it as a crash does. */
  stop(how?: 'fast' | 'immediate'): Promise<void>;
  /** Copies the data directory as it is, whether the server runs or not. */
  copy(): Promise<Replica>;
  /** Puts the directory of another server in place of its own. Both are stopped. */
  putBack(from: Replica): void;
  /** Starts a streaming standby of this server. */
  standby(): Promise<Replica>;
  /** Runs a statement. */
  sql(statement: string): Promise<Record<string, unknown>[]>;
  readonly dataDir: string;
}

const asOwner = (command: string, args: readonly string[]): [string, string[]] => [
  'setpriv',
  ['--reuid=postgres', '--regid=postgres', '--clear-groups', command, ...args],
];

function run(name: string, args: readonly string[]): void {
  const [command, all] = asOwner(join(installation!, name), args);
  execFileSync(command, all, { stdio: ['ignore', 'ignore', 'pipe'], cwd: '/' });
}

/** Makes a data directory with an empty database `feedctl`, and starts a server in it. */
export async function startReplica(): Promise<Replica> {
  const dataDir = await newDirectory();
  run('initdb', ['-D', dataDir, '-U', 'feedctl', '--auth=trust', '--no-sync', '--no-instructions']);
  const server = await replicaIn(dataDir);
  await server.start();
  await query(server.url.replace(/feedctl$/, 'postgres'), 'create database feedctl');
  return server;
}

async function newDirectory(): Promise<string> {
  const dataDir = join(await temporaryDirectory(), 'data');
  await mkdir(dataDir);
  execFileSync('chown', ['postgres:postgres', dataDir]);
  execFileSync('chmod', ['700', dataDir]);
  return dataDir;
}

async function replicaIn(dataDir: string): Promise<Replica> {
  const [port] = (await freePorts(1)) as [number];
  const url = `postgres://feedctl@127.0.0.1:${port}/feedctl`;
  let server: Supervised | undefined;
  const copyOf = (from: string, to: string) => {
    execFileSync('rm', ['-rf', to]);
    execFileSync('cp', ['-a', from, to]);
    execFileSync('rm', ['-f', join(to, 'postmaster.pid')]);
  };
  const replica: Replica = {
    url,
    dataDir,
    async start() {
      const settings = [...SETTINGS, `port=${port}`].flatMap((setting) => ['-c', setting]);
      server = supervise(...asOwner(join(installation!, 'postgres'), ['-D', dataDir, ...settings]));
      for (const until = Date.now() + START_MS; !(await answers(port)); await sleep(20))
        if (Date.now() > until) throw new Error('PostgreSQL did not start');
    },
    async stop(how = 'fast') {
      const file = join(dataDir, 'postmaster.pid');
      if (server && existsSync(file))
        process.kill(
          Number(readFileSync(file, 'utf8').split('\n')[0]),
          how === 'fast' ? 'SIGINT' : 'SIGQUIT',
        );
      await server?.exited;
      await server?.stop();
      server = undefined;
    },
    async copy() {
      const to = await newDirectory();
      copyOf(dataDir, to);
      return replicaIn(to);
    },
    putBack: (from) => copyOf(from.dataDir, dataDir),
    async standby() {
      const to = await newDirectory();
      run('pg_basebackup', ['-d', url, '-D', to, '-R', '-X', 'stream', '-c', 'fast', '--no-sync']);
      const standby = await replicaIn(to);
      await standby.start();
      return standby;
    },
    sql: (statement) => query(url, statement),
  };
  onTestFinished(() => replica.stop('immediate'));
  return replica;
}

async function query(url: string, statement: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client(url);
  client.on('error', () => {});
  await client.connect();
  try {
    return (await client.query(statement)).rows;
  } finally {
    await client.end().catch(() => {});
  }
}

const answers = (port: number): Promise<boolean> =>
  query(`postgres://feedctl@127.0.0.1:${port}/postgres`, 'select 1').then(
    () => true,
    () => false,
  );
