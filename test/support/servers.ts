import { execFileSync, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A server of somebody else's that suites need: found by URL, else started, else installed, else missed loudly. */
export interface ServerKind {
  readonly name: string;
  /** The environment variable with the URL of one that runs already. */
  readonly variable: string;
  /** Undefined where Debian has none. */
  readonly debianPackage: string | undefined;
  /** It cannot be had everywhere: FEEDCTL_TEST_REQUIRE does not ask for it. */
  readonly optional?: boolean;
  installed(): boolean;
  /** A private instance on free ports of 127.0.0.1, with its files in `directory`. */
  start(directory: string): Promise<RunningServer>;
  /** What the suites need on it, one that was given too. Returns how to take it away again. */
  prepare?(url: string): Promise<() => Promise<void>>;
}

export interface RunningServer {
  readonly url: string;
  stop(): Promise<void>;
}

export type FoundServer = { url: string } | { missing: string; optional?: boolean };

/** Answers test files over HTTP: `/<name>`. A server is started when the first file asks for it, and for all of them. */
export async function serveServers(
  kinds: readonly ServerKind[],
): Promise<{ url: string; stop(): Promise<void> }> {
  const found = new Map<string, Promise<FoundServer>>();
  const releases: (() => Promise<void>)[] = [];
  const server = createServer((request, response) => {
    const kind = kinds.find((one) => `/${one.name}` === request.url);
    if (!kind) {
      response.writeHead(404).end();
      return;
    }
    const known = found.get(kind.name) ?? find(kind, releases);
    found.set(kind.name, known);
    known
      .catch((error): FoundServer => ({ missing: `${kind.name} could not be started: ${error}` }))
      .then((answer) => response.end(JSON.stringify(answer)));
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async stop() {
      server.close();
      await Promise.allSettled(found.values());
      for (const release of releases.reverse()) await release();
    },
  };
}

async function find(kind: ServerKind, releases: (() => Promise<void>)[]): Promise<FoundServer> {
  const given = process.env[kind.variable];
  if (given) {
    if (kind.prepare) releases.push(await kind.prepare(given));
    return { url: given };
  }
  if (!kind.installed() && kind.debianPackage && mayInstall()) install(kind.debianPackage);
  if (!kind.installed()) {
    const missing = `install ${kind.debianPackage ?? kind.name}, or set ${kind.variable} to the URL of a running one`;
    return { missing, optional: kind.optional ?? false };
  }
  const directory = await mkdtemp(join(tmpdir(), `feedctl-${kind.name}-`));
  releases.push(() => rm(directory, { recursive: true, force: true }));
  const running = await kind.start(directory);
  releases.push(() => running.stop());
  if (kind.prepare) releases.push(await kind.prepare(running.url));
  return { url: running.url };
}

/** Somebody's own machine is left as it is; a container or a CI job is there to be used. */
const mayInstall = (): boolean =>
  process.getuid?.() === 0 &&
  existsSync('/usr/bin/apt-get') &&
  (Boolean(process.env.CI || process.env.container) ||
    existsSync('/.dockerenv') ||
    existsSync('/run/.containerenv'));

function install(debianPackage: string): void {
  // RUNLEVEL: the package's own service is not to be started.
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' };
  const aptGet = (...args: string[]) =>
    execFileSync('apt-get', args, { env, stdio: ['ignore', 'ignore', 'inherit'], timeout: 600_000 });
  process.stderr.write(`installing ${debianPackage} for the tests\n`);
  try {
    aptGet('update', '-qq');
    aptGet('install', '-y', '-qq', '--no-install-recommends', debianPackage);
  } catch (error) {
    process.stderr.write(`${debianPackage} could not be installed: ${error}\n`);
  }
}

/** Ends the server when its own end comes or the pipe to the test run closes, by kill -9 too; then runs `after`. */
const SUPERVISOR = `
  after=$1; shift; exec 3<&0
  "$@" </dev/null 3<&- & server=$!
  (cat <&3 >/dev/null; kill "$server" 2>/dev/null) & leash=$!
  wait "$server"; status=$?; kill "$leash" 2>/dev/null
  eval "$after"; exit $status`;

export interface Supervised {
  readonly pid: number;
  readonly exited: Promise<void>;
  stop(): Promise<void>;
}

/** A server as a child that cannot outlive this process. `after`: a shell command for what it leaves behind. */
export function supervise(
  command: string,
  args: readonly string[],
  options: { env?: NodeJS.ProcessEnv; after?: string } = {},
): Supervised {
  const child = spawn('/bin/sh', ['-c', SUPERVISOR, 'sh', options.after ?? '', command, ...args], {
    env: { ...process.env, ...options.env },
    cwd: '/',
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  const exited = new Promise<void>((done) => {
    child.once('exit', () => done()).once('error', () => done());
  });
  child.stdin.on('error', () => {});
  return {
    pid: child.pid!,
    exited,
    async stop() {
      child.stdin.destroy();
      await exited;
    },
  };
}

/** Below those that the system gives to connections and to port 0: none is taken by chance before its server listens. */
const PORTS = { from: 20_000, to: 32_000 } as const;

/** Ports nobody listens on now. */
export async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>();
  while (ports.size < count) {
    const port = randomInt(PORTS.from, PORTS.to);
    if (await isFree(port)) ports.add(port);
  }
  return [...ports];
}

function isFree(port: number): Promise<boolean> {
  const server = createTcpServer();
  return new Promise((done) => {
    server.once('error', () => done(false));
    server.listen(port, '127.0.0.1', () => server.close(() => done(true)));
  });
}
