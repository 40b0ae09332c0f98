import type { Config } from '../../config/config.ts';
import { signToken } from '../../gateway/tokens.ts';
import { FeedctlError } from '../../model/errors.ts';
import { Resources } from '../../resilience/resources.ts';
import type { LatencyMs } from '../../store/runs.ts';
import { runConcurrently } from '../../util/parallel.ts';
import { openBenchCluster } from '../benchCluster.ts';
import { middleRun, percentiles, thousandths } from '../limit.ts';
import { describeMachine, type Machine } from '../machine.ts';
import { startChild, startGatewayProcess } from '../push/processes.ts';
import { prepare } from '../read.ts';
import type { BareHttpCalls, Load, LoadCalls } from './calls.ts';

const FOLLOWEES = 100;
const AUTHORS = 400;
const POSTS = 10;
const WARM_UP_SECONDS = 2;

export interface BenchHttpOptions {
  /** Users who read their feeds in turn. */
  readonly readers: number;
  readonly connections: number;
  readonly runs: number;
  /** Seconds of each run of each kind. */
  readonly seconds: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (text: string) => void;
}

interface Rate {
  readonly requestsPerSecond: number;
  readonly bytesPerResponse: number;
  readonly ms: LatencyMs;
}

export interface BenchHttpResult {
  readonly connections: number;
  readonly bare: Rate;
  readonly feed: Rate;
  /** Ratio of the median run, and of all runs. */
  readonly ratio: number;
  readonly ratios: readonly number[];
  readonly machine: Machine;
}

/**
 * Compares `GET /post/feed` of a gateway, with cached pages, with a fastify route that answers with
 * the bytes of such a page. Gateway, route and clients are processes; both servers take turns. Uses
 * the caller's database like `bench fanout`.
 */
export async function benchHttp(
  config: Config,
  version: string,
  options: BenchHttpOptions,
): Promise<BenchHttpResult> {
  const { connections, runs, seconds, signal } = options;
  const report = (text: string) => {
    signal?.throwIfAborted();
    options.onProgress?.(text);
  };
  const resources = new Resources();
  try {
    const bench = await openBenchCluster(config, { version, ...(signal && { signal }), onBatch: () => {} });
    resources.add('cluster', () => bench.stop());
    report('making feeds');
    const { plain } = await prepare(bench, {
      readers: options.readers,
      authors: AUTHORS,
      followees: FOLLOWEES,
      posts: POSTS,
      ...(signal && { signal }),
    });
    const { db } = bench.cluster;
    const tokens = await runConcurrently(plain, 8, (reader) => signToken(db, reader));
    const gateway = await startGatewayProcess(config, db.url);
    resources.add('gateway', () => gateway.stop());
    const bare = startChild<BareHttpCalls>('../http/bareHttp');
    resources.add('bare route', () => bare.stop());
    const clients = startChild<LoadCalls>('../http/load');
    resources.add('clients', () => clients.stop());
    const bareUrl = (await bare.listen({ body: await pageOf(gateway.url, tokens[0]!) })).url;
    const load = async (url: string, forSeconds: number) => {
      const result = await clients.run({ url, tokens, connections, seconds: forSeconds });
      if (result.errors > 0) throw new FeedctlError('INTERNAL', `${result.errors} requests failed`);
      return result;
    };
    report('warming up');
    for (const url of [gateway.url, bareUrl]) await load(url, WARM_UP_SECONDS);
    const pairs: { bare: Load; feed: Load; ratio: number }[] = [];
    for (let run = 1; run <= runs; run += 1) {
      report(`run ${run} of ${runs}`);
      const [alone, feed] = [await load(bareUrl, seconds), await load(gateway.url, seconds)];
      pairs.push({ bare: alone, feed, ratio: perSecond(feed) / perSecond(alone) });
    }
    const middle = middleRun(pairs, ({ ratio }) => ratio);
    return {
      connections,
      bare: rateOf(middle.bare),
      feed: rateOf(middle.feed),
      ratio: thousandths(middle.ratio),
      ratios: pairs.map(({ ratio }) => thousandths(ratio)),
      machine: await describeMachine(bench),
    };
  } finally {
    await resources.release();
  }
}

async function pageOf(url: string, token: string): Promise<string> {
  const response = await fetch(`${url}/post/feed`, { headers: { authorization: `Bearer ${token}` } });
  return response.text();
}

const perSecond = ({ requests, seconds }: Load): number => requests / seconds;

const rateOf = (load: Load): Rate => ({
  requestsPerSecond: Math.round(perSecond(load)),
  bytesPerResponse: Math.round(load.bytes / load.requests),
  ms: percentiles(load.latencyMs),
});
