import { execFileSync, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A server of a third party for suites: found by URL, else started, else installed, else reported. */
export interface ServerKind {
  readonly name: string;
  /** The environment variable with the URL of a running server. */
  readonly variable: string;
  /** Undefined if Debian has no package. */
  readonly debianPackage: string | undefined;
  /** Not available everywhere: FEEDCTL_TEST_REQUIRE does not require it. */
  readonly optional?: boolean;
  installed(): boolean;
  /** Starts a private instance on free ports of 127.0.0.1, with its files in `directory`. */
  start(directory: string): Promise<RunningServer>;
  /** Prepares the server for the suites, also one that was found by URL. Returns the cleanup. */
  prepare?(url: string): Promise<() => Promise<void>>;
}

export interface RunningServer {
  readonly url: string;
  stop(): Promise<void>;
}

export type FoundServer = { url: string } | { missing: string; optional?: boolean };

/** Answers test files over HTTP: `/<name>`. The first request starts the server for all files. */
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
    const name = kind.debianPackage ?? kind.name;
    const missing = `install ${name}, or set ${kind.variable} to the URL of a running one`;
    return { missing, optional: kind.optional ?? false };
  }
  const directory = await mkdtemp(join(tmpdir(), `feedctl-${kind.name}-`));
  releases.push(() => rm(directory, { recursive: true, force: true }));
  const running = await kind.start(directory);
  releases.push(() => running.stop());
  if (kind.prepare) releases.push(await kind.prepare(running.url));
  return { url: running.url };
}

/** Installs packages only in containers and CI jobs, never on a developer's machine. */
const mayInstall = (): boolean =>
  process.getuid?.() === 0 &&
  existsSync('/usr/bin/apt-get') &&
  (Boolean(process.env.CI || process.env.container) ||
    existsSync('/.dockerenv') ||
    existsSync('/run/.containerenv'));

function install(debianPackage: string): void {
  // RUNLEVEL keeps the package from starting its service.
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

/** Ends the server when this shell ends or the pipe to the test run closes, then runs `after`. */
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

/** Starts a server that cannot outlive this process. `after`: a shell command that cleans up. */
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

/** Ports below the system's ephemeral range, so that no connection takes one before its server listens. */
const PORTS = { from: 20_000, to: 32_000 } as const;

/** Returns ports without a listener. */
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
