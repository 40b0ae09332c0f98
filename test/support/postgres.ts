import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { chown, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { RunningServer, Supervised } from './servers.ts';
import { supervise } from './servers.ts';

const START_MS = 60_000;

/** Directory with `initdb`, `postgres` and `pg_config`. Without it the embedded server is used. */
export const POSTGRES_BIN = process.env.FEEDCTL_TEST_POSTGRES_BIN;

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

/** Makes a data directory which trusts its administrator. Returns its owner: root may not run it. */
export async function initialise(
  binaries: string,
  pgdata: string,
  administrator: string,
): Promise<Owner | undefined> {
  const idOf = (flag: string) => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
  const owner = process.getuid?.() === 0 ? { uid: idOf('-u'), gid: idOf('-g') } : undefined;
  await mkdir(pgdata, { mode: 0o700 });
  if (owner) await chown(pgdata, owner.uid, owner.gid);
  const args = ['-D', pgdata, '-U', administrator, '-A', 'trust', '-E', 'UTF8', '--locale=C', '--no-sync'];
  execFileSync(join(binaries, 'initdb'), args, { ...owner, cwd: '/', stdio: 'ignore' });
  return owner;
}

export interface PostgresServer {
  /** URL of the administrator `feedctl`, in the database `feedctl`. */
  readonly url: string;
  readonly isRunning: boolean;
  /** Creates the database too, if it is missing. */
  start(): Promise<void>;
  /** Sends the signal to the server, and waits for its end. SIGINT ends the sessions too. */
  stop(signal?: NodeJS.Signals): Promise<void>;
}

/** Describes a server on `pgdata` whose socket is next to its data. */
export function serverIn(
  binary: string,
  owner: Owner | undefined,
  pgdata: string,
  more: readonly string[] = [],
): PostgresServer {
  const socket = `${pgdata}-run`;
  const args = ['-D', pgdata, '-k', socket, '-c', 'wal_level=replica', ...more];
  const asOwner = owner ? ['setpriv', `--reuid=${owner.uid}`, `--regid=${owner.gid}`, '--clear-groups'] : [];
  const [command, ...rest] = [...asOwner, binary, ...args] as [string, ...string[]];
  const port = more.includes('-p') ? `&port=${more[more.indexOf('-p') + 1]}` : '';
  const url = `postgres://feedctl@/feedctl?host=${encodeURIComponent(socket)}${port}`;
  const maintenance = url.replace('/feedctl?', '/postgres?');
  let server: Supervised | undefined;
  return {
    url,
    get isRunning() {
      return server !== undefined;
    },
    async start() {
      await mkdir(socket, { recursive: true });
      if (owner) await chown(socket, owner.uid, owner.gid);
      server = supervise(command, rest);
      for (const until = Date.now() + START_MS; !(await ran(maintenance, 'select 1')); await sleep(20))
        if (Date.now() > until) throw new Error('PostgreSQL did not start');
      // The embedded server has created it already, and a standby has it from its primary.
      await ran(maintenance, 'create database feedctl');
    },
    async stop(signal = 'SIGINT') {
      const file = join(pgdata, 'postmaster.pid');
      if (existsSync(file)) process.kill(Number(readFileSync(file, 'utf8').split('\n')[0]), signal);
      await server?.exited;
      await server?.stop();
      server = undefined;
    },
  };
}

/** Starts a server with the given binaries in `directory`, for all suites. */
export async function startPostgres(binaries: string, directory: string): Promise<RunningServer> {
  const pgdata = join(directory, 'postgres');
  const owner = await initialise(binaries, pgdata, 'feedctl');
  const server = serverIn(join(binaries, 'postgres'), owner, pgdata, ['-c', 'listen_addresses=']);
  await server.start();
  return { url: server.url, stop: () => server.stop() };
}

/** Returns whether a statement ran. Its commit waits for no standby, which may start later. */
async function ran(url: string, statement: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url, options: '-c synchronous_commit=local' });
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
