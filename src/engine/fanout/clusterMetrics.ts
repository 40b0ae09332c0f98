import type { Bus, QueueDepth } from '../bus/bus.ts';
import type { Database, Queryable } from '../database/database.ts';
import { acquireLeadership, releaseLeadership } from '../database/leader.ts';
import type { Presence } from '../live/presence.ts';
import { messageOf } from '../model/errors.ts';
import { OLD_MEASUREMENT_MS, oldestSeconds } from '../model/feedStorage.ts';
import { LANES, type LaneState } from '../model/lanes.ts';
import { type MeasuredStorage, readFeedStorage } from '../store/feedStorage.ts';
import { readLanes } from '../store/lanes.ts';
import { countGateways, countWorkers } from '../store/processes.ts';
import type { Log } from '../telemetry/log.ts';
import { type Metrics, QUEUE_LABELS } from '../telemetry/metrics.ts';
import { settleWithin, withTimeout } from '../util/deadline.ts';
import { everyTick } from '../util/ticks.ts';
import { estimateAges } from './queueAges.ts';

const POLL_MS = 10_000;
/** Two and a half polls. */
const LEASE_SECONDS = 25;
/** A poll that takes longer is abandoned. */
const QUERY_TIMEOUT_MS = 10_000;
/**
 * Shutdown waits at most this long for a silent database or broker: the lease expires without an
 * answer.
 */
const SHUTDOWN_TIMEOUT_MS = 2_000;
/** Estimated ages of queues are kept this long: longer than it takes until another worker polls. */
const MEMORY_SECONDS = 60;
const SETTING = 'figures.leader';

const STORAGE_GAUGES = [
  ['feedctl_feed_partitions', ({ partitions }) => partitions],
  ['feedctl_feed_rows', ({ rows }) => rows],
  ['feedctl_feed_bytes', ({ bytes }) => bytes],
  ['feedctl_feed_oldest_seconds', (storage) => oldestSeconds(storage, storage.measuredAt)],
  ['feedctl_feed_wal_bytes_per_row', ({ walBytesPerRow }) => walBytesPerRow],
] as const satisfies readonly (readonly [string, (storage: MeasuredStorage) => number | null])[];

interface ClusterGauges {
  /** End of the lease by the monotonic clock: another worker may export the gauges from then on. */
  readonly until: number;
  readonly depths: readonly QueueDepth[];
  readonly lanes: readonly LaneState[];
  readonly workers: number;
  readonly gateways: number;
  readonly storage: MeasuredStorage | undefined;
}

interface Context {
  readonly db: Database;
  readonly bus: Bus;
  readonly presence: Presence;
  readonly log: Log;
  readonly metrics: Metrics;
  /** Id of this worker. */
  readonly id: string;
}

/**
 * Exports gauges of the whole cluster: messages in queues, lanes, workers, gateways, online users and
 * feed rows. One worker polls and exports them, so that a sum over workers is right. If it cannot poll
 * it exports none rather than old values.
 */
export function startClusterMetrics(
  context: Context,
  options: { everyMs?: number; leaseSeconds?: number; timeoutMs?: number } = {},
): { stop(): Promise<void> } {
  const { db, bus, log, id } = context;
  const { everyMs = POLL_MS, leaseSeconds = LEASE_SECONDS, timeoutMs = QUERY_TIMEOUT_MS } = options;
  let gauges: ClusterGauges | undefined;
  /** Runs statements with a deadline: an abandoned statement frees its session. */
  const withDeadline = (deadlineMs: number): Queryable => ({
    query: (text, values) => db.withSession((session) => session.query(text, values), { deadlineMs }),
  });
  const queryable = withDeadline(timeoutMs);
  const read = async (): Promise<ClusterGauges | undefined> => {
    const until = performance.now() + leaseSeconds * 1_000;
    if (!(await acquireLeadership(queryable, SETTING, { id, leaseSeconds }))) return undefined;
    const [depths, lanes, workers, gateways, storage] = await Promise.all([
      bus.depths(),
      readLanes(queryable),
      countWorkers(queryable),
      countGateways(queryable),
      readFeedStorage(queryable),
    ]);
    return { until, depths: await withAges(queryable, depths), lanes, workers, gateways, storage };
  };
  let reading: Promise<void> | undefined;
  const poll = () => {
    reading ??= withTimeout(timeoutMs, read(), () => new Error(`no answer within ${timeoutMs} ms`))
      .then((current) => {
        gauges = current;
      })
      .catch((error) => {
        gauges = undefined;
        log.warn({ reason: messageOf(error) }, 'cluster metrics not read');
      })
      .finally(() => {
        reading = undefined;
      });
  };
  const unwatch = watchGauges(context, () =>
    gauges && performance.now() < gauges.until ? gauges : undefined,
  );
  const end = everyTick(everyMs, poll);
  poll();
  return {
    async stop() {
      end();
      for (const stop of unwatch) stop();
      await settleWithin(
        SHUTDOWN_TIMEOUT_MS,
        (reading ?? Promise.resolve()).then(() =>
          releaseLeadership(withDeadline(SHUTDOWN_TIMEOUT_MS), SETTING, id),
        ),
      );
    },
  };
}

/** `known` returns undefined if this worker is not the leader or cannot poll. */
function watchGauges({ metrics, presence }: Context, known: () => ClusterGauges | undefined): (() => void)[] {
  const of = (value: (gauges: ClusterGauges) => number) => () => {
    const gauges = known();
    return gauges && value(gauges);
  };
  const ofQueue = (queue: string, value: (depths: readonly QueueDepth[]) => number) =>
    of(({ depths }) =>
      value(
        depths.filter(
          (depth) => depth.queue === queue || (queue === 'live' && depth.queue.startsWith('live.')),
        ),
      ),
    );
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
  const ofLane = (name: string, value: (lane: LaneState | undefined) => number) =>
    of(({ lanes }) => value(lanes.find((one) => one.lane === name)));
  const ofStorage = (value: (storage: MeasuredStorage) => number | null) => () => {
    const storage = known()?.storage;
    return storage && storage.ageMs < OLD_MEASUREMENT_MS ? (value(storage) ?? undefined) : undefined;
  };
  return [
    ...QUEUE_LABELS.flatMap((queue) => {
      const ready = ofQueue(queue, (depths) => sum(depths.map((depth) => depth.ready)));
      const unacked = ofQueue(queue, (depths) => sum(depths.map((depth) => depth.unacked)));
      const dead = ofQueue(queue, (depths) => sum(depths.map((depth) => depth.deadLetters)));
      const oldest = ofQueue(
        queue,
        (depths) => Math.max(0, ...depths.map((depth) => depth.oldestAgeMs ?? 0)) / 1_000,
      );
      return [
        metrics.watch('feedctl_queue_messages', ready, { queue, state: 'ready' }),
        metrics.watch('feedctl_queue_messages', unacked, { queue, state: 'unacked' }),
        metrics.watch('feedctl_queue_oldest_seconds', oldest, { queue }),
        metrics.watch('feedctl_dead_letters', dead, { queue }),
      ];
    }),
    ...LANES.flatMap((lane) => [
      metrics.watch(
        'feedctl_lane_paused',
        ofLane(lane, (state) => (state?.paused ? 1 : 0)),
        { lane },
      ),
      metrics.watch(
        'feedctl_lane_rate_limit',
        ofLane(lane, (state) => state?.throttled?.rowsPerSecond ?? 0),
        { lane },
      ),
    ]),
    metrics.watch(
      'feedctl_workers',
      of(({ workers }) => workers),
    ),
    metrics.watch(
      'feedctl_gateways',
      of(({ gateways }) => gateways),
    ),
    metrics.watch(
      'feedctl_online_users',
      of(() => presence.count),
    ),
    ...STORAGE_GAUGES.map(([name, value]) => metrics.watch(name, ofStorage(value))),
  ];
}

/**
 * A broker does not know the age of messages in a queue without consumers, when the age matters
 * most. Such messages are at least as old as the time since the queue was first seen with messages.
 */
async function withAges(db: Queryable, depths: readonly QueueDepth[]): Promise<QueueDepth[]> {
  const unknown = depths.filter((depth) => depth.oldestAgeMs === null).map((depth) => depth.queue);
  const ages = await estimateAges(db, unknown, MEMORY_SECONDS);
  return depths.map((depth) => ({ ...depth, oldestAgeMs: depth.oldestAgeMs ?? ages.get(depth.queue) ?? 0 }));
}
