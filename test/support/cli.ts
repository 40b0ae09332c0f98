import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { afterAll, expect, inject, onTestFinished } from 'vitest';
import { undocumented } from './outputSchemas.ts';

export const BINARY = fileURLToPath(new URL('../../bin/run.js', import.meta.url));
export const DEMO_DATA = fileURLToPath(new URL('../../src/engine/demo/data/', import.meta.url));
export const DEMO_GRAPH = join(DEMO_DATA, 'follows.edgelist.gz');
export const DEMO_ACTIVITY = join(DEMO_DATA, 'activity_time.txt.gz');

export interface Outcome {
  readonly stdout: string;
  readonly stderr: string;
  /** The exit status, or the signal that ended the process. */
  readonly status: number | NodeJS.Signals;
}

export interface Running {
  readonly pid: number;
  readonly child: ChildProcess;
  readonly ended: Promise<Outcome>;
  stdout(): string;
  stderr(): string;
  /** Resolves when stdout matches. Rejects if the process ends first. */
  printed(pattern: RegExp): Promise<string>;
}

export interface SpawnOptions {
  readonly env?: Record<string, string>;
  /** Arguments of node itself, before the binary. */
  readonly node?: readonly string[];
  /** Path of another node binary. */
  readonly executable?: string;
  /** Path of the `bin/run.js` of another version. */
  readonly binary?: string;
  /** Starts a process group, which a terminal's Ctrl-C signals. */
  readonly group?: boolean;
}

const running = new Set<ChildProcess>();
const directories: string[] = [];

afterAll(async () => {
  for (const child of running) child.kill('SIGKILL');
  for (const directory of directories) {
    await until(() => postgresOf(directory).length === 0);
    await rm(directory, { recursive: true, force: true });
  }
});

/** Makes a directory that is removed after the file's tests. The database's user may enter it. */
export async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'feedctl-cli-'));
  await chmod(directory, 0o711);
  directories.push(directory);
  return directory;
}

/** The environment without settings of the developer and of the test runner. */
function environment(extra: Record<string, string> = {}): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(
    ([name]) => !/^(FEEDCTL_|VITEST|TEST$|NODE_ENV$|NODE_OPTIONS$|FORCE_COLOR$|NO_COLOR$|DEBUG$)/.test(name),
  );
  return { ...Object.fromEntries(kept), XDG_CONFIG_HOME: '/nonexistent', ...extra };
}

export function start(args: readonly string[], options: SpawnOptions = {}): Running {
  const child = spawn(
    options.executable ?? process.execPath,
    [...(options.node ?? []), options.binary ?? BINARY, ...args],
    {
      env: environment(options.env),
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: options.group ?? false,
    },
  );
  running.add(child);
  let stdout = '';
  let stderr = '';
  const waiting = new Set<() => void>();
  const look = () => {
    for (const check of waiting) check();
  };
  child.stdout!.setEncoding('utf8').on('data', (chunk: string) => {
    stdout += chunk;
    look();
  });
  child.stderr!.setEncoding('utf8').on('data', (chunk: string) => {
    stderr += chunk;
  });
  const ended = new Promise<Outcome>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => {
      running.delete(child);
      const fault = undocumented(args, stdout);
      if (fault) reject(new Error(fault));
      else resolve({ stdout, stderr, status: code ?? signal! });
    });
  });
  return {
    pid: child.pid!,
    child,
    ended,
    stdout: () => stdout,
    stderr: () => stderr,
    printed: (pattern) =>
      new Promise((resolve, reject) => {
        const check = () => {
          const found = pattern.exec(stdout);
          if (!found) return;
          waiting.delete(check);
          resolve(found[0]);
        };
        waiting.add(check);
        check();
        void ended.then(({ status }) =>
          reject(new Error(`\`${args.join(' ')}\` ended (${status}) without ${pattern}: ${stdout}${stderr}`)),
        );
      }),
  };
}

/** Starts a worker or a gateway and waits until it is ready, or until it has started and says `ready`. */
export async function startRole(
  args: readonly string[],
  options?: SpawnOptions,
  ready = true,
): Promise<Running> {
  const role = start([...args, '--json'], options);
  const first = await role.printed(/"ready": (?:true|false)[\s\S]*\n\}\n/);
  // A role that is ready later, as on a busy machine, says so on stderr.
  if (ready && first.startsWith('"ready": false')) await waitUntil(() => /is ready\.$/m.test(role.stderr()));
  if (!ready) expect(first).toContain('"ready": false');
  return role;
}

/** Starts a role that is stopped when the test ends. */
export async function testRole(
  args: readonly string[],
  options?: SpawnOptions,
  ready?: boolean,
): Promise<Running> {
  const role = await startRole(args, options, ready);
  onTestFinished(async () => {
    role.child.kill('SIGKILL');
    await role.ended;
  });
  return role;
}

/** Runs one command until it exits. */
export const feedctl = (args: readonly string[], options?: SpawnOptions): Promise<Outcome> =>
  start(args, options).ended;

/** Runs one command with --json, which must succeed and print exactly one JSON value. */
export async function json<T = Record<string, unknown>>(
  args: readonly string[],
  options?: SpawnOptions,
): Promise<T> {
  const outcome = await feedctl([...args, '--json'], options);
  expect(outcome, outcome.stdout + outcome.stderr).toMatchObject({ status: 0 });
  return JSON.parse(outcome.stdout) as T;
}

export interface UpCluster extends Running {
  readonly dataDir: string;
  readonly gatewayUrl: string;
  readonly databaseUrl: string;
  /** The flags that name this cluster. */
  readonly at: readonly string[];
}

/** Starts `feedctl up` as a process and waits until it is ready. */
export async function up(
  dataDir: string,
  options: SpawnOptions = {},
  flags: readonly string[] = [],
): Promise<UpCluster> {
  const process = start(['up', '--data-dir', dataDir, '--port', '0', ...flags, '--json'], options);
  const ready = JSON.parse(await process.printed(/^\{[\s\S]*\n\}\n/)) as {
    gatewayUrl: string;
    databaseUrl: string;
  };
  return { ...process, ...ready, dataDir, at: ['--data-dir', dataDir] };
}

export async function waitUntil(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await sleep(10);
}
const until = waitUntil;

/** Command lines of PostgreSQL servers, and of their supervisors, whose data is below `directory`. */
export const postgresOf = (directory: string): string[] =>
  execFileSync('ps', ['-A', '-ww', '-o', 'pid=,args='], { encoding: 'utf8' })
    .split('\n')
    .filter((line) => line.includes('postgres') && line.includes(` -D ${directory}`));

/** Queries the database of the commands directly. */
export async function sql<Row extends object>(url: string, text: string): Promise<Row[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(text)).rows as Row[];
  } finally {
    await client.end();
  }
}

export interface Counts {
  users: string;
  posts: string;
  follows: string;
  feed_items: string;
  events: string;
}

/** Result of `feed verify` without faults. */
export const NOTHING_WRONG = {
  mismatched: 0,
  missing: 0,
  strangers: 0,
  orphans: 0,
  duplicates: 0,
  stale: 0,
  asymmetric: 0,
};

/** State that a failed command or a dry run must not change. */
export async function counts(url: string): Promise<Counts> {
  const tables = ['users', 'posts', 'follows', 'followers', 'feed_items', 'events', 'celebrities'];
  const columns = tables.map((table) => `(select count(*) from ${table}) as ${table}`);
  return (await sql<Counts>(url, `select ${columns.join(', ')}`))[0]!;
}

/** Makes an empty database without a schema in the test server. */
export async function emptyDatabase(name: string): Promise<string> {
  const server = inject('serverUrl');
  const admin = server.replace('/feedctl?', '/postgres?');
  await sql(admin, `drop database if exists ${name} with (force)`);
  await sql(admin, `create database ${name}`);
  afterAllDrop.push({ admin, name });
  return server.replace('/feedctl?', `/${name}?`);
}
const afterAllDrop: { admin: string; name: string }[] = [];
afterAll(async () => {
  for (const { admin, name } of afterAllDrop)
    await sql(admin, `drop database if exists ${name} with (force)`);
});
