import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import type { Config } from '../../config/config.ts';
import { FeedctlError } from '../../model/errors.ts';
import { INSPECTED, openInspector } from './inspected.ts';
import type { Usage } from './protocol.ts';

const BINARY = fileURLToPath(new URL('../../../../bin/run.js', import.meta.url));

/** A process of the benchmark, with a method for each of its calls. */
export type Child<C> = {
  readonly [Name in keyof C]: C[Name] extends (args: infer Args) => infer Answer
    ? (args: Args) => Promise<Answer>
    : never;
} & { stop(): Promise<void>; collectGarbage(): Promise<void> };

type Program = 'bareServer' | 'clients' | '../http/bareHttp' | '../http/load';

/** Starts a program, a file relative to this one with the same extension. */
export function startChild<C>(program: Program): Child<C> {
  const extension = import.meta.url.slice(import.meta.url.lastIndexOf('.'));
  const child = fork(new URL(`./${program}${extension}`, import.meta.url), {
    serialization: 'advanced',
    execArgv: [INSPECTED],
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  const { collectGarbage } = openInspector(child.stderr!);
  const waiting = new Map<number, { resolve: (answer: never) => void; reject: (error: Error) => void }>();
  child.on('message', ({ id, answer, error }: { id: number; answer: never; error?: string }) => {
    const call = waiting.get(id);
    waiting.delete(id);
    if (error === undefined) call?.resolve(answer);
    else call?.reject(new FeedctlError('INTERNAL', `${program}: ${error}`));
  });
  const ended = once(child, 'exit').then(() => {
    for (const { reject } of waiting.values())
      reject(new FeedctlError('INTERNAL', `the process ${program} of the benchmark ended`));
  });
  let calls = 0;
  const ask = (call: string) => (args: unknown) =>
    new Promise((resolve, reject) => {
      calls += 1;
      waiting.set(calls, { resolve, reject });
      child.send({ id: calls, call, args }, (error) => error && reject(error));
    });
  const stop = async () => {
    if (child.connected) child.disconnect();
    await ended;
  };
  // Without `then`, so that an await does not take the proxy for a promise.
  const own = new Map<unknown, unknown>([
    ['stop', stop],
    ['collectGarbage', collectGarbage],
    ['then', undefined],
  ]);
  return new Proxy({} as Child<C>, {
    get: (_, name) => (own.has(name) ? own.get(name) : ask(String(name))),
  });
}

export interface GatewayProcess {
  readonly url: string;
  usage(): Promise<Usage>;
  /** Deliveries that workers sent to this gateway, by whether the user was listening at arrival. */
  addressed(): Promise<{ listening: number; notListening: number }>;
  collectGarbage(): Promise<void>;
  stop(): Promise<void>;
}

/** All clients of a benchmark have one address, and a few users make all requests. */
const NO_LIMITS = {
  FEEDCTL_USER_LIMIT: '0',
  FEEDCTL_USER_WRITE_LIMIT: '0',
  FEEDCTL_IP_LIMIT: '0',
  FEEDCTL_IP_UNAUTHENTICATED_LIMIT: '0',
  FEEDCTL_SOCKETS_PER_IP: '0',
};

/** The environment without settings: the gateway must not join another cluster. */
function withoutSettings(env: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const others = Object.entries(env).filter(([name]) => !name.startsWith('FEEDCTL_'));
  return { ...Object.fromEntries(others), XDG_CONFIG_HOME: '/nonexistent' };
}

/** Starts `feedctl gateway start` as a process on the database of the benchmark. */
export async function startGatewayProcess(config: Config, databaseUrl: string): Promise<GatewayProcess> {
  const child = spawn(process.execPath, [INSPECTED, BINARY, 'gateway', 'start', '--port', '0', '--json'], {
    env: {
      ...withoutSettings(process.env),
      FEEDCTL_DATABASE_URL: databaseUrl,
      ...(config.brokerUrl && { FEEDCTL_BROKER_URL: config.brokerUrl }),
      ...(config.cacheUrl && { FEEDCTL_CACHE_URL: config.cacheUrl }),
      FEEDCTL_LOG_LEVEL: 'warn',
      ...NO_LIMITS,
      // The gateway then ends with this process, even if this process is killed.
      FEEDCTL_REEXEC: '1',
    },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    // Ctrl-C reaches the whole process group, and the gateway must outlive the benchmark.
    detached: true,
  });
  const { collectGarbage } = openInspector(child.stderr!);
  const url = await readyUrl(child);
  const metrics = async () => {
    const text = await (await fetch(`${url}/metrics`)).text();
    return (name: string) =>
      Number(
        text
          .split('\n')
          .find((line) => line.startsWith(`${name} `))
          ?.split(' ')[1] ?? 0,
      );
  };
  return {
    url,
    collectGarbage,
    async usage() {
      const value = await metrics();
      return {
        rssBytes: value('process_resident_memory_bytes'),
        cpuSeconds: value('process_cpu_seconds_total'),
      };
    },
    async addressed() {
      const value = await metrics();
      const count = (listening: 'yes' | 'no') =>
        value(`feedctl_gateway_addressed_total{listening="${listening}"}`);
      return { listening: count('yes'), notListening: count('no') };
    },
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await ended;
    },
  };
}

async function readyUrl(child: ChildProcess): Promise<string> {
  let text = '';
  for await (const chunk of child.stdout!) {
    text += chunk;
    if (!/\n\}\n/.test(text)) continue;
    const { gatewayUrl } = JSON.parse(text) as { gatewayUrl?: string };
    if (gatewayUrl) return gatewayUrl;
  }
  throw new FeedctlError('INTERNAL', `the gateway of the benchmark did not start: ${text}`);
}

/** Open files besides the sockets: modules, database sessions, requests of the clients. */
const OTHER_FILES = 1_000;

/** Throws USAGE if the hard limit of open files is too low. Node raises the soft limit to it. */
export async function checkOpenFiles(sockets: number): Promise<void> {
  const limits = await readFile('/proc/self/limits', 'utf8').catch(() => '');
  const hard = Number(/^Max open files\s+\S+\s+(\d+)/m.exec(limits)?.[1] ?? Number.POSITIVE_INFINITY);
  if (sockets + OTHER_FILES > hard)
    throw new FeedctlError(
      'USAGE',
      `${sockets} sockets need more open files than a process may have here, which is ${hard}`,
      { suggestions: [`Raise it first: ulimit -n ${sockets + OTHER_FILES}`, 'Or pass a lower --sockets.'] },
    );
}
