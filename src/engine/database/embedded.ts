import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, openSync, readFileSync } from 'node:fs';
import {
  chmod,
  chown,
  cp,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  rmdir,
  stat,
} from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { FeedctlError, messageOf } from '../model/errors.ts';
import { temporaryDirectory } from '../util/temporaryDirectory.ts';

/** PostgreSQL as a child process, reached through a socket in a directory that nobody else may enter. */
export interface EmbeddedPostgres {
  readonly databaseUrl: string;
  readonly version: string;
  /** Fast shutdown: data is safe, sessions are ended. */
  stop(): Promise<void>;
  /** Settles when the server is gone, wanted or not. */
  readonly exited: Promise<void>;
}

const DATABASE = 'feedctl';
const USER = 'feedctl';
const READY_TIMEOUT_MS = 120_000;
const STOP_TIMEOUT_MS = 60_000;
/** sockaddr_un holds 108 bytes with the trailing NUL (104 on macOS). */
const MAX_SOCKET_PATH = 103;

/**
 * Sized for a laptop. `wal_level=minimal`: nothing replicates from here. The JIT compiler costs more than it
 * saves on short statements. Shared memory stays under the 1 GiB that a whole cluster may take.
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
 * Ends PostgreSQL with whoever started it, even by kill -9: the shell holds the other end of file descriptor 3,
 * which closes when that process dies. In a session of its own, so that Ctrl-C at a terminal does not reach it.
 * Asked again and again: what a shell starts in the background ignores SIGINT until the server has set its handlers.
 */
const SUPERVISOR = `"$@" 3<&- & pid=$!
{ read -r _ <&3; while kill -INT "$pid"; do sleep 0.1; done; } 2>/dev/null &
reader=$!
wait "$pid"
kill "$reader" 2>/dev/null`;

type Owner = { uid: number; gid: number } | undefined;

/** The server refuses to run as root; `nobody` is there on every machine, so nothing has to be created. */
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
        suggestions: [
          'Install optional dependencies too, or use a server of your own: FEEDCTL_DATABASE_URL.',
        ],
      },
    );
  }
}

/** As root the server runs as another user, who may not be able to enter the folder the package is in. */
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

/** Not mkdir's own `recursive`: where the kernel answers ENOENT below a folder that exists (/proc), that never ends. */
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

/** Makes `dataDir`, and makes sure that the user the server runs as can enter it. */
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
    throw new FeedctlError('DATA_DIR_UNUSABLE', `cannot write to ${dataDir}: ${messageOf(error)}`, {
      cause: error,
    });
  }
  const owner = await databaseOwner(join(dataDir, 'postgres'));
  if (owner && spawnSync('/bin/sh', ['-c', 'cd "$1"', 'sh', dataDir], { ...owner, cwd: '/' }).status !== 0) {
    throw new FeedctlError(
      'DATA_DIR_UNUSABLE',
      `user ${owner.uid}, whom PostgreSQL runs as here, cannot enter ${dataDir}`,
      {
        suggestions: ['Pick a directory outside /root with --data-dir, or run feedctl as an ordinary user.'],
      },
    );
  }
}

async function initialise(native: string, pgdata: string, owner: Owner, sync: boolean): Promise<void> {
  // After kill -9 the last start's initdb may still be writing: its directory cannot always be removed, nor used.
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
  const child = spawn(join(native, 'bin', 'initdb'), args, {
    ...owner,
    cwd: '/',
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let stderr = '';
  child.stderr.on('data', (chunk) => {
    stderr += chunk;
  });
  const status = await new Promise((done) => child.on('close', done).on('error', done));
  if (status !== 0) {
    await rm(fresh, { recursive: true, force: true });
    throw new FeedctlError('EMBEDDED_POSTGRES_FAILED', `initdb failed: ${stderr.trim() || status}`);
  }
  // Only a complete directory gets its name: a kill in between leaves nothing that looks like a database.
  await rename(fresh, pgdata);
}

/** Waits for, and in the end stops, a server that outlived a killed `up`. */
async function endOrphan(pgdata: string): Promise<void> {
  const pidFile = join(pgdata, 'postmaster.pid');
  const orphan = (): number | undefined => {
    try {
      const pid = Number(readFileSync(pidFile, 'utf8').split('\n')[0]);
      if (process.platform === 'linux' && !readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(pgdata))
        return undefined;
      process.kill(pid, 0);
      return pid;
    } catch {
      return undefined;
    }
  };
  const steps: [NodeJS.Signals | undefined, number][] = [
    [undefined, 3_000],
    ['SIGINT', 20_000],
    ['SIGQUIT', 20_000],
  ];
  for (const [signal, patienceMs] of steps) {
    const pid = orphan();
    if (pid === undefined) return;
    if (signal) process.kill(pid, signal);
    for (const until = Date.now() + patienceMs; Date.now() < until && orphan() !== undefined; )
      await sleep(20);
  }
  if (orphan() !== undefined) {
    throw new FeedctlError(
      'EMBEDDED_POSTGRES_FAILED',
      `an older PostgreSQL (process ${orphan()}) still holds ${pgdata}`,
    );
  }
}

/**
 * Where the server's socket is, and how to remove what has been made for it outside of `dataDir`. There, in a
 * place that everybody writes to, the name is new each time: a name that can be guessed is a link by then, to
 * something that root would give away.
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

/** A setting that is a list of directories: a comma in one of them ends it but for the quotes. */
const quoted = (directory: string): string => `"${directory.replaceAll('"', '""')}"`;

/** Connects once; true when the server takes sessions. Creates the database on its first start. */
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

/**
 * Starts PostgreSQL in `dataDir`, creating it at first. `temporary`: the directory will not outlive the process, so
 * its creation is not synced to disk; commits are, as everywhere.
 */
export async function startEmbeddedPostgres(
  dataDir: string,
  options: { temporary?: boolean; signal?: AbortSignal } = {},
): Promise<EmbeddedPostgres> {
  const pgdata = join(dataDir, 'postgres');
  const owner = await databaseOwner(pgdata);
  const native = await reachableBinaries(dataDir, owner);
  if (!existsSync(join(pgdata, 'PG_VERSION'))) await initialise(native, pgdata, owner, !options.temporary);
  else await endOrphan(pgdata);
  const { directory: socket, remove: removeSocket } = await socketDirectory(dataDir, owner);

  const flags = { ...SETTINGS, unix_socket_directories: quoted(socket) };
  const args = Object.entries(flags).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  const log = openSync(join(dataDir, 'postgres.log'), 'a');
  const child: ChildProcess = spawn(
    '/bin/sh',
    ['-c', SUPERVISOR, 'sh', join(native, 'bin', 'postgres'), '-D', pgdata, ...args],
    { ...owner, cwd: '/', detached: true, stdio: ['ignore', log, log, 'pipe'] },
  );
  let gone = false;
  const exited = new Promise<void>((done) => {
    const end = () => {
      gone = true;
      done();
    };
    child.once('exit', end).once('error', end);
  });
  const leash = child.stdio[3] as NodeJS.WritableStream & { destroy(): void; unref?(): void };
  leash.on('error', () => {});
  leash.unref?.();
  child.unref();

  let stopping: Promise<void> | undefined;
  const stop = (): Promise<void> => {
    stopping ??= (async () => {
      leash.destroy();
      const timeout = new AbortController();
      const late = sleep(STOP_TIMEOUT_MS, 'late', { signal: timeout.signal }).catch(() => 'late');
      // The child is not referenced: a timer keeps this process alive until the server is gone.
      if ((await Promise.race([exited, late])) === 'late') process.kill(-child.pid!, 'SIGQUIT');
      timeout.abort();
      await exited;
      await removeSocket();
    })();
    return stopping;
  };

  try {
    for (const until = Date.now() + READY_TIMEOUT_MS; ; await sleep(15)) {
      if (await tryConnect(socket)) break;
      options.signal?.throwIfAborted();
      if (gone)
        throw new FeedctlError('EMBEDDED_POSTGRES_FAILED', `PostgreSQL did not start: ${lastLine(dataDir)}`);
      if (Date.now() > until)
        throw new FeedctlError('EMBEDDED_POSTGRES_FAILED', 'PostgreSQL did not get ready in time');
    }
  } catch (error) {
    await stop();
    throw error;
  }
  const version = (await readFile(join(pgdata, 'PG_VERSION'), 'utf8')).trim();
  return {
    databaseUrl: `postgres://${USER}@/${DATABASE}?host=${encodeURIComponent(socket)}`,
    version,
    stop,
    exited,
  };
}

function lastLine(dataDir: string): string {
  const lines = readFileSync(join(dataDir, 'postgres.log'), 'utf8').trim().split('\n');
  return lines.findLast((line) => /FATAL|PANIC|ERROR/.test(line)) ?? lines.at(-1) ?? '';
}
