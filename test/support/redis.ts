import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { freePorts, type RunningServer, type ServerKind, type Supervised, supervise } from './servers.ts';

/** Also the binary of sentinels and of cluster nodes. */
const BINARY = process.env.FEEDCTL_TEST_REDIS_SERVER ?? '/usr/bin/redis-server';
const START_MS = 20_000;

/** Redis for the suites. */
export const redis: ServerKind = {
  name: 'redis',
  variable: 'FEEDCTL_TEST_CACHE_URL',
  debianPackage: 'redis-server',
  installed: () => existsSync(BINARY),
  start: () => startRedis(),
};

export interface PrivateRedis extends RunningServer {
  readonly port: number;
  /** Ends the server with kill -9, or gracefully. */
  down(how: 'stop' | 'kill'): Promise<void>;
  /** Restarts the server on the same port, without its data. */
  up(): Promise<void>;
  /** Makes the server accept connections without answers. */
  freeze(frozen: boolean): void;
}

/**
 * Starts a private instance without persistence. `options`: arguments of redis-server; the first one may be a
 * configuration file.
 */
export async function startRedis(options: readonly string[] = []): Promise<PrivateRedis> {
  const [port] = (await freePorts(1)) as [number];
  const directory = await mkdtemp(join(tmpdir(), 'feedctl-redis-'));
  const own = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--dir', directory];
  const args = options[0]?.startsWith('--') === false ? [...options, ...own] : [...own, ...options];
  let server: Supervised | undefined;
  let pid = 0;
  const up = async () => {
    // A replica writes this file even without persistence, and a server loads it at its start.
    await rm(join(directory, 'dump.rdb'), { force: true });
    server = supervise(BINARY, args);
    pid = await answers(port);
  };
  const down = async (how: 'stop' | 'kill') => {
    if (how === 'kill') process.kill(pid, 'SIGKILL');
    await server?.stop();
    server = undefined;
  };
  await up();
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    up,
    down,
    freeze: (frozen) => process.kill(pid, frozen ? 'SIGSTOP' : 'SIGCONT'),
    stop: async () => {
      if (server && pid > 0) process.kill(pid, 'SIGCONT');
      await down('stop');
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** Waits for a server and returns its process id, or 0 if it asks for a password first. */
async function answers(port: number): Promise<number> {
  for (const until = Date.now() + START_MS; Date.now() < until; await sleep(10)) {
    const text = await say(port, 'INFO server\r\n').catch(() => '');
    if (text.startsWith('-NOAUTH')) return 0;
    const pid = /process_id:(\d+)/.exec(text);
    if (pid) return Number(pid[1]);
  }
  throw new Error(`redis-server on port ${port} did not start`);
}

function say(port: number, command: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => socket.write(command));
    let text = '';
    socket.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      if (text.startsWith('-') || text.includes('process_id:')) {
        socket.destroy();
        resolve(text);
      }
    });
    socket.on('error', reject);
  });
}

/** Runs one command on a connection that is closed afterwards. */
export async function redisCommand(url: string, ...words: (string | number)[]): Promise<unknown> {
  const client = new Redis(url, { retryStrategy: null, maxRetriesPerRequest: 0 });
  client.on('error', () => {});
  try {
    return await client.call(...(words.map(String) as [string, ...string[]]));
  } finally {
    client.disconnect();
  }
}
