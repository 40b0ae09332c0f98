import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, openSync, readFileSync, statSync } from 'node:fs';
import {
  chmod,
  chown,
  cp,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  rmdir,
  stat,
} from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import pg from 'pg';
import { explainDiskFull, isDiskFull } from '../model/diskFull.ts';
import { FeedctlError, messageOf } from '../model/errors.ts';
import { settleWithin } from '../util/deadline.ts';
import { poll } from '../util/poll.ts';
import { temporaryDirectory } from '../util/temporaryDirectory.ts';

/** PostgreSQL as a child process. Its socket is in a directory that no other user may enter. */
export interface EmbeddedPostgres {
  readonly databaseUrl: string;
  readonly version: string;
  /** Shuts down fast: closes sessions, keeps all data. */
  stop(): Promise<void>;
  /** Resolves when the server has ended, for any reason. */
  readonly exited: Promise<void>;
  /** Why the server has ended, by its log. */
  failure(): Error;
}

const DATABASE = 'feedctl';
const USER = 'feedctl';
const READY_TIMEOUT_MS = 120_000;
const READY_POLL_MS = 15;
const STOP_TIMEOUT_MS = 60_000;
const ORPHAN_POLL_MS = 20;
/** sockaddr_un holds 108 bytes with the trailing NUL (104 on macOS). */
const MAX_SOCKET_PATH = 103;

/**
 * Settings for a laptop. `wal_level=minimal`: this server has no replicas. The JIT compiler costs
 * more than it saves on short statements. Shared memory stays below 1 GiB, the limit of a whole
 * cluster.
 */
const SETTINGS: Record<string, string> = {
  listen_addresses: '',
  unix_socket_permissions: '0700',
  max_connections: '100',
  shared_buffers: '256MB',
  effective_cache_size: '1GB',
  work_mem: '32MB',
  maintenance_work_mem: '128MB',
  wal_level: 'minimal',
  max_wal_senders: '0',
  max_wal_size: '2GB',
  checkpoint_timeout: '15min',
  wal_buffers: '16MB',
  jit: 'off',
  timezone: 'UTC',
  log_timezone: 'UTC',
  log_checkpoints: 'off',
  autovacuum_naptime: '10s',
};

/**
 * Ends PostgreSQL together with the process that started it, even after kill -9. The shell reads
 * file descriptor 3, which closes when that process ends. It runs in a separate session, so that
 * Ctrl-C at a terminal does not reach it. The signal is repeated: a background child of a shell
 * ignores SIGINT until the server has set its handlers.
 */
const SUPERVISOR = `"$@" 3<&- & pid=$!
{ read -r _ <&3; while kill -INT "$pid"; do sleep 0.1; done; } 2>/dev/null &
reader=$!
wait "$pid"
kill "$reader" 2>/dev/null`;

type Owner = { uid: number; gid: number } | undefined;

/**
 * Returns the user that PostgreSQL runs as, because it refuses to run as root: the owner of its
 * directory, else `postgres`, else the system's unprivileged user, which every machine has.
 */
async function databaseOwner(pgdata: string): Promise<Owner> {
  if (process.getuid?.() !== 0) return undefined;
  const existing = await stat(pgdata).catch(() => undefined);
  if (existing && existing.uid !== 0) return { uid: existing.uid, gid: existing.gid };
  for (const name of ['postgres', 'nobody']) {
    const [uid, gid] = ['-u', '-g'].map((flag) => spawnSync('id', [flag, name], { encoding: 'utf8' }));
    if (uid?.status === 0 && gid?.status === 0) return { uid: Number(uid.stdout), gid: Number(gid.stdout) };
  }
  throw new FeedctlError(
    'EMBEDDED_POSTGRES_FAILED',
    'PostgreSQL does not run as root, and there is no user `nobody`',
    {
      suggestions: ['Run feedctl as an ordinary user.'],
    },
  );
}

async function nativeDirectory(): Promise<string> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    const binaries = (await import(name)) as { postgres: string };
    return dirname(dirname(binaries.postgres));
  } catch (error) {
    throw new FeedctlError(
      'EMBEDDED_POSTGRES_FAILED',
      `there are no PostgreSQL binaries for this machine (${name})`,
      {
        cause: error,
        suggestions: ['Install optional dependencies too, or use your own server: FEEDCTL_DATABASE_URL.'],
      },
    );
  }
}

/**
 * Returns a directory of binaries that `owner` can run. That user may be unable to enter the
 * package's directory. Then the binaries are copied to the data directory.
 */
async function reachableBinaries(dataDir: string, owner: Owner): Promise<string> {
  const native = await nativeDirectory();
  const runs = (directory: string) =>
    spawnSync(join(directory, 'bin', 'postgres'), ['--version'], { ...owner, cwd: '/' }).status === 0;
  if (runs(native)) return native;
  const { version } = JSON.parse(await readFile(join(native, '..', 'package.json'), 'utf8')) as {
    version: string;
  };
  const copy = join(dataDir, `postgres-${version}`);
  if (!existsSync(copy)) {
    await cp(native, `${copy}.new`, { recursive: true, verbatimSymlinks: true });
    for (const tool of ['initdb', 'pg_ctl', 'postgres']) await chmod(join(`${copy}.new`, 'bin', tool), 0o755);
    await rename(`${copy}.new`, copy);
  }
  if (!runs(copy))
    throw new FeedctlError('EMBEDDED_POSTGRES_FAILED', `the PostgreSQL binaries in ${native} do not run`);
  return copy;
}

/**
 * Replaces mkdir's `recursive`, which never ends if the kernel reports ENOENT below an existing
 * folder (/proc).
 */
async function makeDirectories(path: string, mode: number, made: string[]): Promise<void> {
  try {
    await mkdir(path, { mode });
    made.push(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST' && (await stat(path)).isDirectory()) return;
    if (code !== 'ENOENT' || existsSync(dirname(path))) throw error;
    await makeDirectories(dirname(path), mode, made);
    await makeDirectories(path, mode, made);
  }
}

/** Creates `dataDir` and verifies that the server's user can enter it. */
export async function prepareDataDir(dataDir: string): Promise<void> {
  const made: string[] = [];
  try {
    await usableDataDir(dataDir, made);
  } catch (error) {
    for (const directory of made.reverse()) await rmdir(directory).catch(() => {});
    throw error;
  }
}

async function usableDataDir(dataDir: string, made: string[]): Promise<void> {
  try {
    await makeDirectories(dataDir, process.getuid?.() === 0 ? 0o711 : 0o700, made);
    const probe = join(dataDir, `.probe-${process.pid}`);
    await mkdir(probe);
    await rm(probe, { recursive: true });
  } catch (error) {
    if (isDiskFull(error)) throw explainDiskFull(error, dataDir);
    throw new FeedctlError('DATA_DIR_UNUSABLE', `cannot write to ${dataDir}: ${messageOf(error)}`, {
      cause: error,
    });
  }
  const owner = await databaseOwner(join(dataDir, 'postgres'));
  if (owner && !canEnter(owner, dataDir)) {
    const closed = await closedFolder(owner, dataDir);
    throw new FeedctlError(
      'DATA_DIR_UNUSABLE',
      `PostgreSQL runs here as user ${owner.uid}, who cannot enter ${closed}, the place of ${dataDir}`,
      {
        suggestions: [
          `Pick a directory outside ${closed} with --data-dir, or run feedctl as an ordinary user.`,
          `Or let other users pass through: chmod o+x ${closed}`,
        ],
      },
    );
  }
}

const canEnter = (owner: NonNullable<Owner>, directory: string): boolean =>
  spawnSync('/bin/sh', ['-c', 'cd "$1"', 'sh', directory], { ...owner, cwd: '/' }).status === 0;

/** Returns the topmost folder on the path to `directory` that `owner` cannot enter. */
async function closedFolder(owner: NonNullable<Owner>, directory: string): Promise<string> {
  const names = (await realpath(directory)).split('/').slice(1);
  const folders = names.map((_, i) => `/${names.slice(0, i + 1).join('/')}`);
  return folders.find((folder) => !canEnter(owner, folder)) ?? directory;
}

/**
 * Returns binaries at a path that initdb can start `postgres` from: it quotes the path for a shell, but not
 * the characters in it.
 */
async function quotableBinaries(native: string): Promise<{ directory: string; remove(): Promise<void> }> {
  if (!/["$`\\]/.test(native)) return { directory: native, remove: async () => {} };
  const outside = await temporaryDirectory('run');
  const remove = () => rm(outside, { recursive: true, force: true });
  const directory = join(outside, 'postgres');
  try {
    await cp(native, directory, { recursive: true, verbatimSymlinks: true });
  } catch (error) {
    await remove();
    throw error;
  }
  return { directory, remove };
}

async function initialise(native: string, pgdata: string, owner: Owner, sync: boolean): Promise<void> {
  // After kill -9 an earlier initdb may still write to its directory, which then cannot be removed
  // or used.
  const parent = dirname(pgdata);
  for (const name of await readdir(parent)) {
    if (name.startsWith(`${basename(pgdata)}.new`))
      await rm(join(parent, name), { recursive: true, force: true }).catch(() => {});
  }
  const fresh = await mkdtemp(`${pgdata}.new-`);
  if (owner) await chown(fresh, owner.uid, owner.gid);
  const args = [
    '-D',
    fresh,
    '-U',
    USER,
    '--auth=trust',
    '--encoding=UTF8',
    '--locale=C',
    '--no-instructions',
  ];
  args.push('--locale-provider=builtin', '--builtin-locale=C.UTF-8', ...(sync ? [] : ['--no-sync']));
  const binaries = await quotableBinaries(native);
  const child = spawn(join(binaries.directory, 'bin', 'initdb'), args, {
    ...owner,
    cwd: '/',
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let stderr = '';
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  const status = await new Promise((done) => child.on('close', done).on('error', done));
  await binaries.remove();
  if (status !== 0) {
    await rm(fresh, { recursive: true, force: true });
    const reason = `initdb failed: ${stderr.trim() || status}`;
    throw serverError(reason, parent);
  }
  // Only a complete directory gets the final name, so that a killed initdb leaves no half database.
  await rename(fresh, pgdata);
}

/**
 * Returns the pid of a server that still runs on this directory after its `feedctl up` was killed.
 */
function orphanOf(pgdata: string): number | undefined {
  try {
    const pid = Number(readFileSync(join(pgdata, 'postmaster.pid'), 'utf8').split('\n')[0]);
    // Another process may have the same pid by now.
    if (process.platform === 'linux' && !readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(pgdata))
      return undefined;
    // Throws for a server of another user too, which this process could not stop.
    process.kill(pid, 0);
    return pid;
  } catch {
    return undefined;
  }
}

/** Waits 3 s for such a server, then stops it. */
async function endOrphan(pgdata: string): Promise<void> {
  const attempts: [NodeJS.Signals | undefined, timeoutMs: number][] = [
    [undefined, 3_000],
    ['SIGINT', 20_000],
    ['SIGQUIT', 20_000],
  ];
  for (const [signal, timeoutMs] of attempts) {
    const pid = orphanOf(pgdata);
    if (pid === undefined) return;
    if (signal) process.kill(pid, signal);
    await poll(() => orphanOf(pgdata) === undefined, { everyMs: ORPHAN_POLL_MS, timeoutMs });
  }
  const pid = orphanOf(pgdata);
  if (pid !== undefined)
    throw new FeedctlError(
      'EMBEDDED_POSTGRES_FAILED',
      `an older PostgreSQL (process ${pid}) still uses ${pgdata}`,
    );
}

/**
 * Returns the directory of the server's socket, and the removal of a directory outside of
 * `dataDir`. That one is in a place that every user can write to, so its name is random. With a
 * predictable name another user could create a link there, and root would change the owner of its
 * target.
 */
async function socketDirectory(
  dataDir: string,
  owner: Owner,
): Promise<{ directory: string; remove(): Promise<void> }> {
  const fits = (path: string) => Buffer.byteLength(join(path, '.s.PGSQL.5432.lock')) <= MAX_SOCKET_PATH;
  let directory = join(dataDir, 'run');
  let remove = async () => {};
  if (!fits(directory)) {
    const outside = await temporaryDirectory('run');
    directory = join(outside, 'run');
    remove = () => rm(outside, { recursive: true, force: true });
  }
  try {
    if (!fits(directory)) {
      throw new FeedctlError(
        'DATA_DIR_UNUSABLE',
        `${dataDir} is too long a path for a socket, and so is ${directory}`,
      );
    }
    await mkdir(directory, { recursive: true, mode: 0o700 });
    if (owner) await chown(directory, owner.uid, owner.gid);
  } catch (error) {
    await remove();
    throw error;
  }
  return { directory, remove };
}

/** Quotes a directory in a list of directories, because it may contain a comma. */
const quoted = (directory: string): string => `"${directory.replaceAll('"', '""')}"`;

/**
 * Connects once. Returns whether the server takes sessions. Creates the database on the first
 * start.
 */
async function tryConnect(host: string): Promise<boolean> {
  const client = new pg.Client({ host, user: USER, database: 'postgres' });
  client.on('error', () => {});
  try {
    await client.connect();
    const found = await client.query('select 1 from pg_database where datname = $1', [DATABASE]);
    if (found.rowCount === 0) await client.query(`create database ${DATABASE}`);
    return true;
  } catch (error) {
    const code = (error as { code?: string }).code;
    // 57P03: starting up or recovering.
    if (code === 'ENOENT' || code === 'ECONNREFUSED' || code === '57P03' || code === 'ECONNRESET')
      return false;
    throw error;
  } finally {
    await client.end().catch(() => {});
  }
}

/** The running server behind its supervisor. Settles `exited` when both have ended. */
class ServerProcess {
  readonly exited: Promise<void>;
  hasExited = false;
  readonly #child: ChildProcess;
  /** Closing it makes the supervisor stop the server. */
  readonly #leash: NodeJS.WritableStream & { destroy(): void; unref?(): void };
  readonly #onStopped: () => Promise<void>;
  #stopping: Promise<void> | undefined;

  constructor(child: ChildProcess, onStopped: () => Promise<void>) {
    this.#child = child;
    this.#onStopped = onStopped;
    this.exited = new Promise((resolve) => {
      const end = () => {
        this.hasExited = true;
        resolve();
      };
      child.once('exit', end).once('error', end);
    });
    this.#leash = child.stdio[3] as NodeJS.WritableStream & { destroy(): void; unref?(): void };
    this.#leash.on('error', () => {});
    this.#leash.unref?.();
    child.unref();
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    this.#leash.destroy();
    // The child is unreferenced. The timer of this call keeps the process alive until the server
    // has ended.
    await settleWithin(STOP_TIMEOUT_MS, this.exited);
    if (!this.hasExited) process.kill(-this.#child.pid!, 'SIGQUIT');
    await this.exited;
    await this.#onStopped();
  }
}

/**
 * Starts PostgreSQL in `dataDir`, and creates the database there on the first start. `temporary`:
 * the directory will not outlive the process, so its creation is not synced to disk. Commits are
 * synced as everywhere.
 */
export async function startEmbeddedPostgres(
  dataDir: string,
  options: { temporary?: boolean; signal?: AbortSignal; onStage?: (stage: string) => void } = {},
): Promise<EmbeddedPostgres> {
  const pgdata = join(dataDir, 'postgres');
  const owner = await databaseOwner(pgdata);
  const native = await reachableBinaries(dataDir, owner);
  if (!existsSync(join(pgdata, 'PG_VERSION'))) {
    options.onStage?.(`Making the database in ${dataDir} (first start).`);
    await initialise(native, pgdata, owner, !options.temporary);
  } else await endOrphan(pgdata);
  options.onStage?.(`Starting the database in ${dataDir}.`);
  const { directory: socket, remove: removeSocket } = await socketDirectory(dataDir, owner);
  const flags = { ...SETTINGS, unix_socket_directories: quoted(socket) };
  const args = Object.entries(flags).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  const logPath = join(dataDir, 'postgres.log');
  const log = openSync(logPath, 'a');
  const logStart = statSync(logPath).size;
  const child = spawn(
    '/bin/sh',
    ['-c', SUPERVISOR, 'sh', join(native, 'bin', 'postgres'), '-D', pgdata, ...args],
    { ...owner, cwd: '/', detached: true, stdio: ['ignore', log, log, 'pipe'] },
  );
  const server = new ServerProcess(child, removeSocket);
  const reason = () => lastLine(logPath, logStart);
  try {
    await untilReady(server, { dataDir, socket, signal: options.signal, reason });
  } catch (error) {
    await server.stop();
    throw error;
  }
  return {
    databaseUrl: `postgres://${USER}@/${DATABASE}?host=${encodeURIComponent(socket)}`,
    version: (await readFile(join(pgdata, 'PG_VERSION'), 'utf8')).trim(),
    stop: () => server.stop(),
    exited: server.exited,
    failure: () => serverError(`PostgreSQL ended by itself: ${reason()}`, dataDir),
  };
}

/** Returns the error of a server, which names the disk if that is full. */
function serverError(reason: string, dataDir: string): Error {
  if (!isDiskFull(reason)) return new FeedctlError('EMBEDDED_POSTGRES_FAILED', reason);
  return explainDiskFull(new Error(reason), dataDir) as Error;
}

async function untilReady(
  server: ServerProcess,
  options: { dataDir: string; socket: string; signal: AbortSignal | undefined; reason: () => string },
): Promise<void> {
  const { dataDir, socket, signal, reason } = options;
  const check = async () => {
    if (await tryConnect(socket)) return true;
    signal?.throwIfAborted();
    if (server.hasExited) throw serverError(`PostgreSQL did not start: ${reason()}`, dataDir);
    return false;
  };
  if (!(await poll(check, { everyMs: READY_POLL_MS, timeoutMs: READY_TIMEOUT_MS })))
    throw new FeedctlError('EMBEDDED_POSTGRES_FAILED', 'PostgreSQL did not get ready in time');
}

/** Returns the last error in the server's log since its start, or the last line. */
function lastLine(logPath: string, from: number): string {
  const lines = readFileSync(logPath).subarray(from).toString('utf8').trim().split('\n');
  return lines.findLast((line) => /FATAL|PANIC|ERROR/.test(line)) ?? lines.at(-1) ?? '';
}
