import { execFileSync, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { chmod } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { Database } from '../../src/engine/database/database.ts';
import { migrate } from '../../src/engine/database/migrate.ts';
import { ensurePartitions } from '../../src/engine/store/partitions.ts';
import { initialise, POSTGRES_BIN } from './postgres.ts';
import { freePorts, type RunningServer, type ServerKind } from './servers.ts';

/** Few shards are enough: tests need several, on more than one node. */
const SHARDS = 8;
const START_MS = 60_000;
const TEMPLATE = 'feedctl_citus_template';
const SETTINGS = {
  listen_addresses: '127.0.0.1',
  unix_socket_directories: '',
  shared_preload_libraries: 'citus',
  wal_level: 'logical',
  max_prepared_transactions: '200',
  max_connections: '300',
  max_worker_processes: '64',
  max_wal_senders: '20',
  max_replication_slots: '20',
  shared_buffers: '128MB',
  'citus.node_conninfo': 'sslmode=disable',
};

/** Returns the folder of binaries of an installation with Citus, or undefined. */
function installation(): string | undefined {
  const debian = '/usr/lib/postgresql';
  const folders = existsSync(debian)
    ? readdirSync(debian).map((version) => join(debian, version, 'bin'))
    : [];
  for (const folder of POSTGRES_BIN ? [POSTGRES_BIN] : [...folders, '']) {
    try {
      const ask = (what: string) =>
        execFileSync(folder ? join(folder, 'pg_config') : 'pg_config', [what], { encoding: 'utf8' }).trim();
      if (existsSync(join(ask('--sharedir'), 'extension', 'citus.control'))) return ask('--bindir');
    } catch {
      // No pg_config at this path.
    }
  }
  return undefined;
}

/** Returns whether this machine can start private nodes. */
export const canStartCitusNodes = (): boolean => installation() !== undefined;

/**
 * Citus for the suites: a database of a coordinator, with a role that may create databases on every
 * node, or a private coordinator with two workers if PostgreSQL on this machine has the extension.
 */
export const citus: ServerKind = {
  name: 'citus',
  variable: 'FEEDCTL_TEST_CITUS_URL',
  debianPackage: undefined,
  optional: true,
  installed: () => installation() !== undefined,
  start: (directory) => startPrivate(installation()!, directory),
  async prepare(url) {
    await makeTemplate(url);
    return () => dropCitusDatabase(url, TEMPLATE);
  },
};

const withDatabase = (url: string, database: string): string => {
  const changed = new URL(url);
  changed.pathname = `/${database}`;
  return changed.href;
};

async function run<Row extends pg.QueryResultRow>(url: string, ...statements: string[]): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    let rows: Row[] = [];
    for (const statement of statements) ({ rows } = await client.query<Row>(statement));
    return rows;
  } finally {
    await client.end();
  }
}

/** URLs of the database `postgres` on each node, the coordinator first. */
async function nodesOf(url: string): Promise<string[]> {
  const workers = await run<{ nodename: string; nodeport: number }>(
    url,
    'select nodename, nodeport from pg_dist_node where groupid <> 0 order by nodeid',
  );
  const addresses = workers.map(({ nodename, nodeport }) => {
    const worker = new URL(url);
    worker.hostname = nodename;
    worker.port = String(nodeport);
    return worker.href;
  });
  return [url, ...addresses].map((node) => withDatabase(node, 'postgres'));
}

/** An empty database with the extension on every node, and the nodes known to the coordinator. */
export async function emptyCitusDatabase(server: string, name: string): Promise<string> {
  const nodes = await nodesOf(server);
  for (const node of nodes) await run(node, `create database ${name}`);
  await joinNodes(nodes.map((node) => withDatabase(node, name)));
  return withDatabase(nodes[0]!, name);
}

/** Makes one distributed database of a database on each node. */
async function joinNodes(databases: readonly string[]): Promise<void> {
  for (const database of databases) await run(database, 'create extension citus');
  const [coordinator, ...workers] = databases.map((database) => new URL(database)) as [URL, ...URL[]];
  await run(
    coordinator.href,
    `select citus_set_coordinator_host('${coordinator.hostname}', ${coordinator.port})`,
    ...workers.map((worker) => `select citus_add_node('${worker.hostname}', ${worker.port})`),
    `alter database ${coordinator.pathname.slice(1)} set citus.shard_count = ${SHARDS}`,
  );
}

/** The servers copy the template, one node at a time: shards and their catalog are ordinary files. */
async function makeTemplate(server: string): Promise<void> {
  await dropCitusDatabase(server, TEMPLATE);
  const db = new Database(await emptyCitusDatabase(server, TEMPLATE), { maxSessions: 2 });
  try {
    await migrate(db, 'citus');
    await ensurePartitions(db, Date.now());
    // Citus would connect an added node to a database with the name of the template.
    await db.query(`delete from pg_dist_object where classid = 'pg_database'::regclass`);
  } finally {
    await db.close();
  }
}

export async function freshCitusDatabase(server: string, name: string): Promise<string> {
  const nodes = await nodesOf(server);
  for (const node of nodes) {
    // One test file at a time.
    const lock = `select pg_advisory_lock(hashtext('${TEMPLATE}'))`;
    await onceUnused(() => run(node, lock, ...copyOf(TEMPLATE, name)));
  }
  return withDatabase(nodes[0]!, name);
}

/** Statements that copy a database of one server. Citus's daemon stays connected to it until it is ended. */
export const copyOf = (original: string, name: string): string[] => [
  `select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = '${original}'`,
  `create database ${name} template ${original}`,
];

/** Repeats `work` while Citus's daemon of the database is starting, without a session that could be ended. */
export async function onceUnused<T>(work: () => Promise<T>): Promise<T> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await work();
    } catch (error) {
      const { code, cause } = error as { code?: string; cause?: { code?: string } };
      if (![code, cause?.code].includes('55006') || tries === 10) throw error;
      await sleep(100);
    }
  }
}

export async function dropCitusDatabase(server: string, name: string): Promise<void> {
  for (const node of await nodesOf(server))
    await onceUnused(() => run(node, `drop database if exists ${name} with (force)`));
}

/** The server ends when the other end of file descriptor 3 closes. */
const LEASH = `"$@" 3<&- & pid=$!
{ read -r _ <&3; while kill -INT "$pid"; do sleep 0.1; done; } 2>/dev/null &
wait "$pid"`;

/** A node of Citus that can end and start again with its data. */
export interface CitusNode extends RunningServer {
  readonly port: number;
  /** Ends the server as `pg_ctl --mode=immediate stop` does. */
  crash(): Promise<void>;
  start(): Promise<void>;
}

/** Starts one server with the extension's library, in a directory that its user may enter. */
async function startNode(
  bin: string,
  data: string,
  port: number,
  given: Readonly<Record<string, string>> = {},
): Promise<CitusNode> {
  const owner = await initialise(bin, data, 'postgres');
  const settings = Object.entries({ ...SETTINGS, ...given, port: String(port) });
  const args = ['-D', data, ...settings.flatMap(([key, value]) => ['-c', `${key}=${value}`])];
  const url = `postgres://postgres@127.0.0.1:${port}/postgres`;
  let stop = async () => {};
  const start = async () => {
    const log = openSync(`${data}.log`, 'a');
    const child = spawn('/bin/sh', ['-c', LEASH, 'sh', join(bin, 'postgres'), ...args], {
      ...owner,
      cwd: '/',
      detached: true,
      stdio: ['ignore', log, log, 'pipe'],
    });
    closeSync(log);
    const ended = new Promise((done) => child.once('exit', done));
    stop = async () => {
      child.stdio[3]?.destroy();
      await ended;
    };
    for (const until = Date.now() + START_MS; ; await sleep(50)) {
      try {
        await run(url, 'select 1');
        return;
      } catch (error) {
        if (Date.now() <= until && child.exitCode === null) continue;
        await stop();
        throw error;
      }
    }
  };
  await start();
  return {
    url,
    port,
    start,
    stop: () => stop(),
    async crash() {
      process.kill(Number(readFileSync(join(data, 'postmaster.pid'), 'utf8').split('\n')[0]), 'SIGQUIT');
      await stop();
    },
  };
}

/** Starts one more server, with the extension in a database of this name, to be added as a node. */
export async function startCitusNode(
  directory: string,
  database: string,
  settings: Readonly<Record<string, string>> = {},
): Promise<RunningServer & { readonly name: string }> {
  const [port] = await freePorts(1);
  const { url, stop } = await startNode(installation()!, join(directory, `node${port}`), port!, settings);
  await run(url, `create database ${database}`);
  await run(withDatabase(url, database), 'create extension citus');
  return { url: withDatabase(url, database), name: `127.0.0.1:${port}`, stop };
}

const startPrivate = async (bin: string, directory: string): Promise<RunningServer> => {
  const nodes = await startNodes(bin, directory);
  return { url: nodes[0]!.url, stop: () => stopAll(nodes) };
};

/** Starts a coordinator and two nodes, whose nodes can end and start again. The coordinator is the first. */
export const startCitusCluster = (directory: string): Promise<readonly CitusNode[]> =>
  startNodes(installation()!, directory);

const stopAll = async (nodes: readonly RunningServer[]): Promise<void> => {
  await Promise.all(nodes.map((node) => node.stop()));
};

async function startNodes(bin: string, directory: string): Promise<readonly CitusNode[]> {
  await chmod(directory, 0o711);
  const ports = await freePorts(3);
  const names = ['coordinator', 'worker1', 'worker2'];
  const started = await Promise.allSettled(
    names.map((name, i) => startNode(bin, join(directory, name), ports[i]!)),
  );
  const nodes = started.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  try {
    for (const one of started) if (one.status === 'rejected') throw one.reason;
    await joinNodes(nodes.map((node) => node.url));
    return nodes;
  } catch (error) {
    await stopAll(nodes);
    throw error;
  }
}
