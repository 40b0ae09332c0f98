import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../../config/config.ts';
import { signToken } from '../../gateway/tokens.ts';
import { type Pair, seedPairs } from '../../imports/followGraph.ts';
import { FeedctlError } from '../../model/errors.ts';
import { Resources } from '../../resilience/resources.ts';
import type { LatencyMs } from '../../store/runs.ts';
import { runConcurrently } from '../../util/parallel.ts';
import { type BenchCluster, openBenchCluster } from '../benchCluster.ts';
import { percentiles, round } from '../limit.ts';
import { describeMachine, type Machine } from '../machine.ts';
import { settleAfterLoad } from '../sql.ts';
import { type Clients, gather, openSockets, startClients } from './clientProcesses.ts';
import { checkOpenFiles, type GatewayProcess, startChild, startGatewayProcess } from './processes.ts';
import type { BareServerCalls, Usage } from './protocol.ts';

/** Opened and closed before anything is counted: what the first sockets need, the code and its caches, is no socket's. */
const WARM_UP = 500;
/** Until what opening sockets has begun has ended. */
const SETTLE_MS = 3_000;
/** Online followers of each author whose posts' latency is measured. */
const FOLLOWERS = 10;
const NO_CELEBRITIES = 2 ** 31 - 1;

export interface BenchPushOptions {
  readonly sockets: number;
  /** Measured posts to all sockets, of each kind. */
  readonly runs: number;
  /** Deliveries a second while latency is measured, and for how many seconds. */
  readonly rate: number;
  readonly seconds: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (text: string) => void;
}

/** One post to every socket. */
interface Broadcast {
  /** Sockets to the time between the first frame's arrival and the last one's. */
  readonly framesPerSecond: number;
  /** From the request for the post, or the start of the bare loop, to the last frame's arrival. */
  readonly allMs: number;
  /** Of the server's process. */
  readonly cpuMicrosPerFrame: number;
}

/** The run in the middle, and the ratio of each: to the bare server's broadcast right after it. */
interface Compared extends Broadcast {
  readonly ratio: number;
  readonly ratios: readonly number[];
}

export interface BenchPushResult {
  readonly sockets: number;
  readonly memory: {
    /**
     * Resident memory that the sockets added to the process, over their number, with garbage collected before and after:
     * what waits for the collector has a bound that has nothing to do with their number, and would decide the figures.
     */
    readonly bareBytesPerSocket: number;
    readonly gatewayBytesPerSocket: number;
    readonly ratio: number;
  };
  /** Of the run in the middle. */
  readonly broadcast: {
    readonly frameBytes: number;
    readonly bare: Broadcast;
    /** A celebrity's post: the gateway finds the followers among its sockets. */
    readonly celebrity: Compared;
    /** A post that is fanned out: rows are written to all feeds first. */
    readonly fannedOut: Compared;
  };
  /** From the request for a post to each frame, at an even rate, with all sockets open. */
  readonly latency: {
    readonly deliveriesPerSecond: number;
    readonly posts: number;
    readonly errors: number;
    readonly deliveries: number;
    /** Frames that should have come and did not. */
    readonly missing: number;
    readonly ms: LatencyMs & { max: number };
  };
  readonly machine: Machine;
}

/**
 * What pushing costs against the least that a WebSocket server can be: both are processes of their own, with as many
 * sockets open at the same time, and take turns. Clients are in further processes. The caller's database is used as
 * `bench fanout` uses it. Throws USAGE where so many sockets cannot be opened.
 */
export async function benchPush(
  config: Config,
  version: string,
  options: BenchPushOptions,
): Promise<BenchPushResult> {
  const { sockets, signal } = options;
  const report = (text: string) => {
    signal?.throwIfAborted();
    options.onProgress?.(text);
  };
  await checkOpenFiles(sockets);
  const resources = new Resources();
  try {
    const bench = await openBenchCluster(config, { version, ...(signal && { signal }), onBatch: () => {} });
    resources.add('cluster', () => bench.stop());
    report('making users');
    const { readers, celebrity, fannedOut, authors } = await prepare(bench, sockets);
    const { db } = bench.cluster;
    const token = (userId: number) => signToken(db, userId);
    const tokens = await runConcurrently(readers, 8, token);

    const bare = startChild<BareServerCalls>('bareServer');
    resources.add('bare server', () => bare.stop());
    const gateway = await startGatewayProcess(config, db.url);
    resources.add('gateway', () => gateway.stop());
    const clients = startClients(resources);
    const { url: bareUrl } = await bare.listen({
      hello: JSON.stringify({ messageId: 'hello', payload: { userId: '1' } }),
    });
    const bareUsage = () => bare.usage({});

    report(`opening ${sockets} sockets at a bare server`);
    const bareServer = { url: bareUrl, usage: bareUsage, collectGarbage: bare.collectGarbage };
    const bareBytesPerSocket = await memoryOf(clients, 'bare', bareServer, tokens);
    report(`opening ${sockets} sockets at the gateway`);
    const gatewayBytesPerSocket = await memoryOf(clients, 'gateway', gateway, tokens);

    const celebrityToken = await token(celebrity);
    const fannedOutToken = await token(fannedOut);
    const post = (by: string) => async () => {
      const posted = await clients[0]!.postAtRate({
        url: gateway.url,
        tokens: [by],
        perSecond: 1,
        seconds: 1,
      });
      if (posted.errors > 0) throw new FeedctlError('INTERNAL', `a post failed: ${posted.firstError}`);
    };
    const runs: { bare: Broadcast; celebrity: Broadcast; fannedOut: Broadcast }[] = [];
    let sample = '';
    // Run 0 warms the code up.
    for (let run = 0; run <= options.runs; run += 1) {
      report(run === 0 ? 'warming up' : `run ${run} of ${options.runs}: one post to all`);
      const [toFollowers, frame] = await broadcast(
        clients,
        'gateway',
        sockets,
        post(celebrityToken),
        gateway.usage,
      );
      sample = frame;
      const [toFeeds] = await broadcast(clients, 'gateway', sockets, post(fannedOutToken), gateway.usage);
      let startedAt = 0;
      const loop = async () => {
        ({ startedAt } = await bare.broadcast({ text: sample }));
      };
      const [alone] = await broadcast(clients, 'bare', sockets, loop, bareUsage, () => startedAt);
      if (run > 0) runs.push({ bare: alone, celebrity: toFollowers, fannedOut: toFeeds });
    }
    const compared = (kind: 'celebrity' | 'fannedOut'): Compared => {
      const ratioOf = (run: (typeof runs)[number]) => run[kind].framesPerSecond / run.bare.framesPerSecond;
      const middle = inTheMiddle(runs, ratioOf);
      return {
        ...middle[kind],
        ratio: round(ratioOf(middle)),
        ratios: runs.map((run) => round(ratioOf(run))),
      };
    };

    report(`${options.rate} deliveries a second for ${options.seconds} s`);
    const posted = await clients[0]!.postAtRate({
      url: gateway.url,
      tokens: await runConcurrently(authors, 8, token),
      perSecond: options.rate / FOLLOWERS,
      seconds: options.seconds,
    });
    const expected = posted.requestMs.length * FOLLOWERS;
    const frames = await gather(clients, 'gateway', expected);
    const latencies = frames.flatMap(({ latencyMs }) => latencyMs);
    return {
      sockets,
      memory: {
        bareBytesPerSocket,
        gatewayBytesPerSocket,
        ratio: round(gatewayBytesPerSocket / bareBytesPerSocket),
      },
      broadcast: {
        frameBytes: Buffer.byteLength(sample),
        bare: inTheMiddle(runs, ({ bare }) => bare.framesPerSecond).bare,
        celebrity: compared('celebrity'),
        fannedOut: compared('fannedOut'),
      },
      latency: {
        deliveriesPerSecond: options.rate,
        posts: posted.posts,
        errors: posted.errors,
        deliveries: latencies.length,
        missing: Math.max(0, expected - latencies.length),
        ms: { ...percentiles(latencies), max: round(latencies.reduce((a, b) => Math.max(a, b), 0)) },
      },
      machine: await describeMachine(bench),
    };
  } finally {
    await resources.release();
  }
}

/** Readers follow the celebrity, the author who is fanned out, and one author of their own for every ten of them. */
async function prepare(
  { cluster }: BenchCluster,
  sockets: number,
): Promise<{ readers: number[]; celebrity: number; fannedOut: number; authors: number[] }> {
  const idsFrom = (first: number, count: number) => Array.from({ length: count }, (_, i) => first + i);
  const [celebrity, fannedOut] = [1, 2];
  const authors = idsFrom(3, Math.floor(sockets / FOLLOWERS));
  const readers = idsFrom(3 + authors.length, sockets);
  async function* pairs(of: (reader: number, nth: number) => number[]): AsyncGenerator<Pair[]> {
    yield readers.flatMap((reader, nth) => of(reader, nth).map((author): Pair => [reader, author]));
  }
  // Whom nobody but one of ten follows: what is left over of the readers follows the last of them no more than ten do.
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

const inTheMiddle = <T>(runs: readonly T[], by: (run: T) => number): T =>
  runs.toSorted((a, b) => by(a) - by(b))[runs.length >> 1]!;

/** Opens the sockets and leaves them open. Returns the memory that each has added to the server, in bytes. */
async function memoryOf(
  clients: readonly Clients[],
  set: string,
  { url, usage, collectGarbage }: Pick<GatewayProcess, 'url' | 'usage' | 'collectGarbage'>,
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

/** Sends one post to every socket. Returns what came of it and a frame as it came. */
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
      allMs: round(startedAt ? lastAt - startedAt() : slowest),
      cpuMicrosPerFrame: round(((after.cpuSeconds - before.cpuSeconds) / sockets) * 1e6),
    },
    frames.find((one) => one.sample !== null)!.sample!,
  ];
}
