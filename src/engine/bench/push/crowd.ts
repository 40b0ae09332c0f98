import { fanOutDrained } from '../../bus/drained.ts';
import type { Cluster } from '../../cluster/cluster.ts';
import type { Config } from '../../config/config.ts';
import { signToken } from '../../gateway/tokens.ts';
import { generate, randomSource } from '../../imports/generate.ts';
import { DEFAULT_CELEBRITY_THRESHOLD } from '../../model/celebrity.ts';
import { Resources } from '../../resilience/resources.ts';
import type { LatencyMs } from '../../store/runs.ts';
import { runConcurrently } from '../../util/parallel.ts';
import { openBenchCluster } from '../benchCluster.ts';
import { percentiles, thousandths } from '../limit.ts';
import { describeMachine, type Machine } from '../machine.ts';
import { settleAfterLoad, stageTruth } from '../sql.ts';
import { type Clients, divide, gather, openSockets, startClients } from './clientProcesses.ts';
import { checkOpenFiles, type GatewayProcess, startGatewayProcess } from './processes.ts';

export interface BenchCrowdOptions {
  readonly users: number;
  /** Accounts that a user follows: minimum and maximum. */
  readonly friends: readonly [number, number];
  /** Numbers of users who post and listen at the same time, one stage after the other. */
  readonly stages: readonly number[];
  /** Seconds of each stage. */
  readonly seconds: number;
  /** Average pause between two posts of a user. */
  readonly thinkMs: number;
  readonly seed: number;
  readonly signal?: AbortSignal;
  readonly onProgress?: (text: string) => void;
}

export interface CrowdStage {
  readonly people: number;
  readonly posts: number;
  readonly postsPerSecond: number;
  /** Requests without the answer 201, and sockets that the gateway closed. */
  readonly errors: number;
  readonly firstError: string | null;
  /** From a request to its answer. */
  readonly requestMs: LatencyMs;
  /** Posts times the followers of their authors. */
  readonly deliveries: number;
  /** Deliveries to listening followers: the expected number of frames. */
  readonly expected: number;
  /** `expected` over `deliveries`: the share of pushes with a listener if every delivery were pushed. */
  readonly listening: number;
  /** Deliveries that workers sent to the gateway for its users. */
  readonly addressed: number;
  /** Share of `addressed` whose user was still listening at arrival; 1 if there were none. */
  readonly found: number;
  readonly pushes: number;
  readonly pushesPerSecond: number;
  /** From the request for a post to its frame. */
  readonly pushMs: LatencyMs;
}

export interface BenchCrowdResult {
  readonly users: number;
  readonly follows: number;
  readonly stages: readonly CrowdStage[];
  readonly machine: Machine;
}

/**
 * Simulates users who post and listen at the same time, in stages: each has a socket, posts, pauses
 * and posts again. The gateway and the users are separate processes. Uses the caller's database like
 * `bench fanout`.
 */
export async function benchCrowd(
  config: Config,
  version: string,
  options: BenchCrowdOptions,
): Promise<BenchCrowdResult> {
  const { users, signal } = options;
  const report = (text: string) => {
    signal?.throwIfAborted();
    options.onProgress?.(text);
  };
  await checkOpenFiles(Math.max(...options.stages));
  const resources = new Resources();
  try {
    const bench = await openBenchCluster(config, { version, ...(signal && { signal }), onBatch: () => {} });
    resources.add('cluster', () => bench.stop());
    const { cluster } = bench;
    report(`making ${users} users and whom they follow`);
    const { graph } = await generate(
      cluster,
      { users, follows: options.friends, posts: [0, 0], seed: options.seed },
      { celebrityThreshold: DEFAULT_CELEBRITY_THRESHOLD, ...(signal && { signal }) },
      {},
    );
    await settleAfterLoad(cluster.db);
    const gateway = await startGatewayProcess(config, cluster.db.url);
    resources.add('gateway', () => gateway.stop());
    const clients = startClients(resources);
    const random = randomSource(options.seed);
    const stages: CrowdStage[] = [];
    for (const people of options.stages) {
      report(`${people} people post and listen for ${options.seconds} s`);
      const chosen = new Set<number>();
      while (chosen.size < people) chosen.add(1 + Math.floor(random() * users));
      stages.push(await runStage(bench.cluster, clients, gateway, [...chosen], options));
    }
    return { users: graph.users, follows: graph.follows, stages, machine: await describeMachine(bench) };
  } finally {
    await resources.release();
  }
}

async function runStage(
  cluster: Cluster,
  clients: readonly Clients[],
  gateway: GatewayProcess,
  people: readonly number[],
  { seconds, thinkMs, signal }: BenchCrowdOptions,
): Promise<CrowdStage> {
  const { db } = cluster;
  const { url } = gateway;
  const set = `stage of ${people.length}`;
  const tokens = await runConcurrently(people, 8, (userId) => signToken(db, userId));
  await openSockets(clients, set, url, tokens);
  const before = await gateway.addressed();
  const first = await cluster.ids.next();
  const posted = await Promise.all(
    divide(clients, tokens).map(([one, own]) => one.postAsPeople({ url, tokens: own, thinkMs, seconds })),
  );
  await fanOutDrained(cluster, signal);
  const { posts, deliveries, expected } = await stageTruth(db, first, people);
  const frames = await gather(clients, set, expected);
  const after = await gateway.addressed();
  const listening = after.listening - before.listening;
  const addressed = listening + after.notListening - before.notListening;
  const ended = await Promise.all(clients.map((one) => one.close({ set })));
  const latencies = frames.flatMap(({ latencyMs }) => latencyMs);
  return {
    people: people.length,
    posts,
    postsPerSecond: thousandths(posts / seconds),
    errors: sum(posted.map(({ errors }) => errors)) + sum(ended.map(({ closed }) => closed)),
    firstError: posted.find((one) => one.firstError !== null)?.firstError ?? null,
    requestMs: percentiles(posted.flatMap(({ requestMs }) => requestMs)),
    deliveries,
    expected,
    listening: deliveries === 0 ? 0 : thousandths(expected / deliveries),
    addressed,
    found: addressed === 0 ? 1 : thousandths(listening / addressed),
    pushes: latencies.length,
    pushesPerSecond: thousandths(latencies.length / seconds),
    pushMs: percentiles(latencies),
  };
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
