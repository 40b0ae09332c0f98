import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { chmod, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { onTestFinished } from 'vitest';
import { poll } from '../../src/engine/util/poll.ts';
import { temporaryDirectory } from './cli.ts';
import { openProxy } from './proxy.ts';
import { freePorts, type Supervised, supervise } from './servers.ts';

const BINARIES = '/usr/lib/postgresql/15/bin';
const START_MS = 60_000;

/** False on a machine without the server of Debian. */
export const canStream = existsSync(join(BINARIES, 'pg_basebackup'));

/** A primary with a streaming standby, behind one address. */
export interface StreamingPair {
  /** Leads to the primary, and to the standby after `failOver`. */
  readonly url: string;
  /** Ends the replication: later commits are lost by `failOver`. */
  cutReplication(): Promise<void>;
  /** Resolves when the standby has what the primary has. */
  caughtUp(): Promise<void>;
  /** Kills the primary and promotes the standby. */
  failOver(): Promise<void>;
}

/** Starts a primary and a standby until the test ends. PostgreSQL refuses to run as root. */
export async function startStreaming(): Promise<StreamingPair> {
  const directory = await temporaryDirectory();
  const asOwner = (binary: string, args: readonly string[]): [string, string[]] => {
    const command = join(BINARIES, binary);
    if (process.getuid?.() !== 0) return [command, [...args]];
    return ['setpriv', ['--reuid=postgres', '--regid=postgres', '--clear-groups', command, ...args]];
  };
  const run = (binary: string, ...args: string[]) => {
    const [command, rest] = asOwner(binary, args);
    execFileSync(command, rest, { cwd: '/', stdio: ['ignore', 'ignore', 'pipe'] });
  };
  const home = join(directory, 'pair');
  await mkdir(home);
  if (process.getuid?.() === 0) execFileSync('chown', ['postgres', home]);
  await chmod(home, 0o711);
  const [primaryPort, standbyPort] = (await freePorts(2)) as [number, number];
  const urlAt = (port: number) => `postgres://feedctl@127.0.0.1:${port}/feedctl`;
  const started: Supervised[] = [];
  const start = async (name: string, port: number): Promise<void> => {
    const settings = [
      `port=${port}`,
      'listen_addresses=127.0.0.1',
      'unix_socket_directories=',
      'max_connections=200',
    ];
    const [command, args] = asOwner('postgres', [
      '-D',
      join(home, name),
      ...settings.flatMap((one) => ['-c', one]),
    ]);
    started.push(supervise(command, args));
    const answers = () =>
      ask(urlAt(port).replace(/feedctl$/, 'postgres'), 'select 1').then(
        () => true,
        () => false,
      );
    if (!(await poll(answers, { everyMs: 50, timeoutMs: START_MS })))
      throw new Error(`PostgreSQL did not start: see ${home}`);
  };
  onTestFinished(async () => {
    for (const server of started) await server.stop();
  });
  run('initdb', '--no-sync', '-D', join(home, 'primary'), '-U', 'feedctl', '--auth=trust', '-E', 'UTF8');
  await start('primary', primaryPort);
  await ask(urlAt(primaryPort).replace(/feedctl$/, 'postgres'), 'create database feedctl');
  run(
    'pg_basebackup',
    '-h',
    '127.0.0.1',
    '-p',
    String(primaryPort),
    '-U',
    'feedctl',
    '-R',
    '--checkpoint=fast',
    '--no-sync',
    '-D',
    join(home, 'standby'),
  );
  await start('standby', standbyPort);
  const proxy = await openProxy(urlAt(primaryPort));
  return {
    url: proxy.url,
    async cutReplication() {
      await ask(urlAt(standbyPort), `alter system set primary_conninfo = ''`);
      await ask(urlAt(standbyPort), 'select pg_reload_conf()');
      const receivers = async () =>
        (await ask(urlAt(standbyPort), 'select from pg_stat_wal_receiver')).length === 0;
      await poll(receivers, { everyMs: 50, timeoutMs: START_MS });
    },
    async caughtUp() {
      const [row] = await ask(urlAt(primaryPort), 'select pg_current_wal_lsn()::text as lsn');
      const has = async () =>
        (await ask(urlAt(standbyPort), `select pg_last_wal_replay_lsn() >= '${row!.lsn}' as has`))[0]!.has;
      if (!(await poll(has, { everyMs: 50, timeoutMs: START_MS })))
        throw new Error('the standby does not follow');
    },
    async failOver() {
      const pid = Number(readFileSync(join(home, 'primary', 'postmaster.pid'), 'utf8').split('\n')[0]);
      proxy.cut();
      process.kill(pid, 'SIGQUIT');
      await started[0]!.exited;
      await ask(urlAt(standbyPort), 'select pg_promote()');
      proxy.leadTo(urlAt(standbyPort));
      proxy.open();
    },
  };
}

async function ask(url: string, statement: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client(url);
  client.on('error', () => {});
  await client.connect();
  try {
    return (await client.query(statement)).rows;
  } finally {
    await client.end();
  }
}
