import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../../config/config.ts';
import { signToken } from '../../gateway/tokens.ts';
import { NO_CELEBRITIES, type Pair, seedPairs } from '../../imports/followGraph.ts';
import { FeedctlError } from '../../model/errors.ts';
import { Resources } from '../../resilience/resources.ts';
import type { LatencyMs } from '../../store/runs.ts';
import { runConcurrently } from '../../util/parallel.ts';
import { type BenchCluster, openBenchCluster } from '../benchCluster.ts';
import { middleRun, percentiles, thousandths } from '../limit.ts';
import { describeMachine, type Machine } from '../machine.ts';
import { settleAfterLoad } from '../sql.ts';
import { type Clients, gather, openSockets, startClients } from './clientProcesses.ts';
import { checkOpenFiles, type GatewayProcess, startChild, startGatewayProcess } from './processes.ts';
import type { BareServerCalls, Usage } from './protocol.ts';

/** Sockets that are opened and closed first: they load code and fill caches, which is no socket's cost. */
const WARM_UP = 500;
/** Pause after opening sockets, until the server has finished that work. */
const SETTLE_MS = 3_000;
/** Online followers of each author of the latency measurement. */
const FOLLOWERS = 10;

export interface BenchPushOptions {
  readonly sockets: number;
  /** Measured posts to all sockets, of each kind. */
  readonly runs: number;
  /** Deliveries a second while latency is measured, and the seconds of that. */
  readonly rate: number;
  readonly seconds: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (text: string) => void;
}

/** One post to every socket. */
interface Broadcast {
  /** Sockets over the time from the first frame's arrival to the last one's. */
  readonly framesPerSecond: number;
  /** From the request for the post, or the start of the bare loop, to the last frame's arrival. */
  readonly allMs: number;
  /** CPU time of the server's process. */
  readonly cpuMicrosPerFrame: number;
}

/** The median run, and the ratio of each run to the bare server's broadcast right after it. */
interface Compared extends Broadcast {
  readonly ratio: number;
  readonly ratios: readonly number[];
}

export interface BenchPushResult {
  readonly sockets: number;
  readonly memory: {
    /**
     * Resident memory that the sockets added to the process, over their number. Garbage is collected
     * before and after: its amount does not depend on the number of sockets.
     */
    readonly bareBytesPerSocket: number;
    readonly gatewayBytesPerSocket: number;
    readonly ratio: number;
  };
  /** Values of the median run. */
  readonly broadcast: {
    readonly frameBytes: number;
    readonly bare: Broadcast;
    /** A celebrity's post: the gateway finds the followers among its sockets. */
    readonly celebrity: Compared;
    /** A post that is fanned out: its rows are written to all feeds first. */
    readonly fannedOut: Compared;
  };
  /** From the request for a post to each frame, at a constant rate, with all sockets open. */
  readonly latency: {
    readonly deliveriesPerSecond: number;
    readonly posts: number;
    readonly errors: number;
    readonly deliveries: number;
    /** Expected frames that did not arrive. */
    readonly missing: number;
    readonly ms: LatencyMs & { max: number };
  };
  readonly machine: Machine;
}

/**
 * Compares pushing with a minimal WebSocket server. Both are processes with the same number of open
 * sockets, and take turns. Clients are further processes. Uses the caller's database like `bench
 * fanout`. Throws USAGE if the limit of open files is too low.
 */
export async function benchPush(
  config: Config,
  version: string,
  options: BenchPushOptions,
): Promise<BenchPushResult> {
  const { sockets, signal } = options;
  await checkOpenFiles(sockets);
  const resources = new Resources();
  try {
    const bench = await openBenchCluster(config, { version, ...(signal && { signal }), onBatch: () => {} });
    resources.add('cluster', () => bench.stop());
    return await new PushBench(bench, resources, options).run(config);
  } finally {
    await resources.release();
  }
}

/** A server with sockets, the gateway or the bare server. */
type Server = Pick<GatewayProcess, 'url' | 'usage' | 'collectGarbage'>;

interface BareServer extends Server {
  broadcast(args: { text: string }): Promise<{ startedAt: number }>;
}

interface Run {
  readonly bare: Broadcast;
  readonly celebrity: Broadcast;
  readonly fannedOut: Broadcast;
}

class PushBench {
  readonly #bench: BenchCluster;
  readonly #resources: Resources;
  readonly #options: BenchPushOptions;
  #clients: readonly Clients[] = [];

  constructor(bench: BenchCluster, resources: Resources, options: BenchPushOptions) {
    this.#bench = bench;
    this.#resources = resources;
    this.#options = options;
  }

  async run(config: Config): Promise<BenchPushResult> {
    const { sockets } = this.#options;
    this.#report('making users');
    const users = await prepare(this.#bench, sockets);
    const bare = await this.#startBareServer();
    const gateway = await startGatewayProcess(config, this.#bench.cluster.db.url);
    this.#resources.add('gateway', () => gateway.stop());
    this.#clients = startClients(this.#resources);
    const memory = await this.#measureMemory(bare, gateway, await this.#tokensOf(users.readers));
    const broadcasts = await this.#measureBroadcasts(bare, gateway, users);
    const latency = await this.#measureLatency(gateway, users.authors);
    return { sockets, memory, broadcast: broadcasts, latency, machine: await describeMachine(this.#bench) };
  }

  /** Reports progress. Throws if the signal has aborted. */
  #report(text: string): void {
    this.#options.signal?.throwIfAborted();
    this.#options.onProgress?.(text);
  }

  #tokensOf(users: readonly number[]): Promise<string[]> {
    const { db } = this.#bench.cluster;
    return runConcurrently(users, 8, (userId) => signToken(db, userId));
  }

  async #startBareServer(): Promise<BareServer> {
    const child = startChild<BareServerCalls>('bareServer');
    this.#resources.add('bare server', () => child.stop());
    const hello = JSON.stringify({ messageId: 'hello', payload: { userId: '1' } });
    const { url } = await child.listen({ hello });
    const { collectGarbage, broadcast: send } = child;
    return { url, usage: () => child.usage({}), collectGarbage, broadcast: send };
  }

  async #measureMemory(
    bare: Server,
    gateway: Server,
    tokens: readonly string[],
  ): Promise<BenchPushResult['memory']> {
    const { sockets } = this.#options;
    this.#report(`opening ${sockets} sockets at a bare server`);
    const bareBytesPerSocket = await memoryOf(this.#clients, 'bare', bare, tokens);
    this.#report(`opening ${sockets} sockets at the gateway`);
    const gatewayBytesPerSocket = await memoryOf(this.#clients, 'gateway', gateway, tokens);
    const ratio = thousandths(gatewayBytesPerSocket / bareBytesPerSocket);
    return { bareBytesPerSocket, gatewayBytesPerSocket, ratio };
  }

  async #measureBroadcasts(
    bare: BareServer,
    gateway: Server,
    users: Users,
  ): Promise<BenchPushResult['broadcast']> {
    const [celebrityToken, fannedOutToken] = await this.#tokensOf([users.celebrity, users.fannedOut]);
    const { sockets } = this.#options;
    const toGateway = (token: string) =>
      broadcast(this.#clients, 'gateway', sockets, () => this.#post(gateway.url, token), gateway.usage);
    const runs: Run[] = [];
    let sample = '';
    // Run 0 warms the code up.
    for (let n = 0; n <= this.#options.runs; n += 1) {
      this.#report(n === 0 ? 'warming up' : `run ${n} of ${this.#options.runs}: one post to all`);
      const [celebrity, frame] = await toGateway(celebrityToken!);
      sample = frame;
      const [fannedOut] = await toGateway(fannedOutToken!);
      let startedAt = 0;
      const send = async () => {
        ({ startedAt } = await bare.broadcast({ text: sample }));
      };
      const [alone] = await broadcast(this.#clients, 'bare', sockets, send, bare.usage, () => startedAt);
      if (n > 0) runs.push({ bare: alone, celebrity, fannedOut });
    }
    return {
      frameBytes: Buffer.byteLength(sample),
      bare: middleRun(runs, (run) => run.bare.framesPerSecond).bare,
      celebrity: compare(runs, 'celebrity'),
      fannedOut: compare(runs, 'fannedOut'),
    };
  }

  /** Makes one post. Throws INTERNAL if the gateway refuses it. */
  async #post(url: string, token: string): Promise<void> {
    const [client] = this.#clients;
    const { errors, firstError } = await client!.postAtRate({
      url,
      tokens: [token],
      perSecond: 1,
      seconds: 1,
    });
    if (errors > 0) throw new FeedctlError('INTERNAL', `a post failed: ${firstError}`);
  }

  async #measureLatency({ url }: Server, authors: readonly number[]): Promise<BenchPushResult['latency']> {
    const { rate, seconds } = this.#options;
    this.#report(`${rate} deliveries a second for ${seconds} s`);
    const tokens = await this.#tokensOf(authors);
    const perSecond = rate / FOLLOWERS;
    const posted = await this.#clients[0]!.postAtRate({ url, tokens, perSecond, seconds });
    const expected = posted.requestMs.length * FOLLOWERS;
    const frames = await gather(this.#clients, 'gateway', expected);
    const latencies = frames.flatMap(({ latencyMs }) => latencyMs);
    const max = thousandths(latencies.reduce((a, b) => Math.max(a, b), 0));
    return {
      deliveriesPerSecond: rate,
      posts: posted.posts,
      errors: posted.errors,
      deliveries: latencies.length,
      missing: Math.max(0, expected - latencies.length),
      ms: { ...percentiles(latencies), max },
    };
  }
}

function compare(runs: readonly Run[], kind: 'celebrity' | 'fannedOut'): Compared {
  const ratioOf = (run: Run) => run[kind].framesPerSecond / run.bare.framesPerSecond;
  const middle = middleRun(runs, ratioOf);
  return {
    ...middle[kind],
    ratio: thousandths(ratioOf(middle)),
    ratios: runs.map((run) => thousandths(ratioOf(run))),
  };
}

interface Users {
  readonly readers: number[];
  readonly celebrity: number;
  readonly fannedOut: number;
  readonly authors: number[];
}

/** Makes readers who follow the celebrity, the author who is fanned out, and, ten each, one author. */
async function prepare({ cluster }: BenchCluster, sockets: number): Promise<Users> {
  const idsFrom = (first: number, count: number) => Array.from({ length: count }, (_, i) => first + i);
  const [celebrity, fannedOut] = [1, 2];
  const authors = idsFrom(3, Math.floor(sockets / FOLLOWERS));
  const readers = idsFrom(3 + authors.length, sockets);
  async function* pairs(of: (reader: number, nth: number) => number[]): AsyncGenerator<Pair[]> {
    yield readers.flatMap((reader, nth) => of(reader, nth).map((author): Pair => [reader, author]));
  }
  // Ten readers share an author. The last few readers may have none: no author has more than ten.
  const own = (nth: number) => authors.slice(Math.floor(nth / FOLLOWERS), Math.floor(nth / FOLLOWERS) + 1);
  await seedPairs(
    cluster,
    pairs((_, nth) => [fannedOut, ...own(nth)]),
    { celebrityThreshold: NO_CELEBRITIES },
  );
  await seedPairs(
    cluster,
    pairs(() => [celebrity]),
    { celebrityThreshold: 0 },
  );
  await settleAfterLoad(cluster.db);
  return { readers, celebrity, fannedOut, authors };
}

/** Opens the sockets and leaves them open. Returns the memory that each has added to the server, in bytes. */
async function memoryOf(
  clients: readonly Clients[],
  set: string,
  { url, usage, collectGarbage }: Server,
  tokens: readonly string[],
): Promise<number> {
  const settled = async () => {
    await sleep(SETTLE_MS);
    await collectGarbage();
    return (await usage()).rssBytes;
  };
  await clients[0]!.open({ set, url, tokens: tokens.slice(0, WARM_UP) });
  await clients[0]!.close({ set });
  const before = await settled();
  await openSockets(clients, set, url, tokens);
  return Math.round(((await settled()) - before) / tokens.length);
}

/** Sends one post to every socket. Returns the measurements and one of the frames. */
async function broadcast(
  clients: readonly Clients[],
  set: string,
  sockets: number,
  send: () => Promise<void>,
  usage: () => Promise<Usage>,
  startedAt?: () => number,
): Promise<[Broadcast, string]> {
  const before = await usage();
  await send();
  const frames = await gather(clients, set, sockets);
  const after = await usage();
  const total = frames.reduce((sum, one) => sum + one.frames, 0);
  if (total !== sockets)
    throw new FeedctlError('INTERNAL', `${total} of ${sockets} sockets got the post (${set})`);
  const firstAt = Math.min(...frames.map((one) => one.firstAt));
  const lastAt = Math.max(...frames.map((one) => one.lastAt));
  const slowest = frames.reduce((most, one) => one.latencyMs.reduce((a, b) => Math.max(a, b), most), 0);
  return [
    {
      framesPerSecond: Math.round((sockets / (lastAt - firstAt)) * 1000),
      allMs: thousandths(startedAt ? lastAt - startedAt() : slowest),
      cpuMicrosPerFrame: thousandths(((after.cpuSeconds - before.cpuSeconds) / sockets) * 1e6),
    },
    frames.find((one) => one.sample !== null)!.sample!,
  ];
}
