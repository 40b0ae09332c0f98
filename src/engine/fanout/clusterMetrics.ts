import type { Bus, QueueDepth } from '../bus/bus.ts';
import type { Database, Queryable } from '../database/database.ts';
import { acquireLeadership, releaseLeadership } from '../database/leader.ts';
import type { Presence } from '../live/presence.ts';
import { messageOf } from '../model/errors.ts';
import { LANES, type LaneState } from '../model/lanes.ts';
import { readLanes } from '../store/lanes.ts';
import { countGateways, countWorkers } from '../store/processes.ts';
import type { Log } from '../telemetry/log.ts';
import { type Metrics, QUEUE_LABELS } from '../telemetry/metrics.ts';
import { settleWithin, withTimeout } from '../util/deadline.ts';
import { estimateAges } from './queueAges.ts';

const POLL_MS = 10_000;
/** Two looks and a half. */
const LEASE_SECONDS = 25;
/** A look that takes longer is given up. */
const QUERY_TIMEOUT_MS = 10_000;
/** Nobody waits longer for a database or a broker that says nothing when the worker ends: the lease ends by itself. */
const SHUTDOWN_TIMEOUT_MS = 2_000;
/** Of messages whose age nobody knows: longer than it takes until another worker looks. */
const MEMORY_SECONDS = 60;
const SETTING = 'figures.leader';

interface ClusterGauges {
  /** By the monotonic clock: from then on another worker may export its own. */
  readonly until: number;
  readonly depths: readonly QueueDepth[];
  readonly lanes: readonly LaneState[];
  readonly workers: number;
  readonly gateways: number;
}

interface Context {
  readonly db: Database;
  readonly bus: Bus;
  readonly presence: Presence;
  readonly log: Log;
  readonly metrics: Metrics;
  /** Of this worker. */
  readonly id: string;
}

/**
 * Figures that are the whole cluster's and not one process's: what waits in queues, lanes, who is there. One worker
 * looks and exports them, so that a sum over workers is right; where it cannot look it exports none rather than old ones.
 */
export function startClusterMetrics(
  context: Context,
  options: { everyMs?: number; leaseSeconds?: number; lookMs?: number } = {},
): { stop(): Promise<void> } {
  const { db, bus, log, id } = context;
  const { everyMs = POLL_MS, leaseSeconds = LEASE_SECONDS, lookMs = QUERY_TIMEOUT_MS } = options;
  let gauges: ClusterGauges | undefined;
  /** A statement that is given up frees its session. */
  const patient = (deadlineMs: number): Queryable => ({
    query: (text, values) => db.withSession((session) => session.query(text, values), { deadlineMs }),
  });
  const asked = patient(lookMs);
  const look = async (): Promise<ClusterGauges | undefined> => {
    const until = performance.now() + leaseSeconds * 1_000;
    if (!(await acquireLeadership(asked, SETTING, { id, leaseSeconds }))) return undefined;
    const [depths, lanes, workers, gateways] = await Promise.all([
      bus.depths(),
      readLanes(asked),
      countWorkers(asked),
      countGateways(asked),
    ]);
    return { until, depths: await withAges(asked, depths), lanes, workers, gateways };
  };
  let looking: Promise<void> | undefined;
  const lookNow = () => {
    looking ??= withTimeout(lookMs, look(), () => new Error(`no answer within ${lookMs} ms`))
      .then((seen) => {
        gauges = seen;
      })
      .catch((error) => {
        gauges = undefined;
        log.warn({ reason: messageOf(error) }, 'cluster metrics not read');
      })
      .finally(() => {
        looking = undefined;
      });
  };
  const unwatch = watchFigures(context, () =>
    gauges && performance.now() < gauges.until ? gauges : undefined,
  );
  const timer = setInterval(lookNow, everyMs);
  lookNow();
  return {
    async stop() {
      clearInterval(timer);
      for (const stop of unwatch) stop();
      await settleWithin(
        SHUTDOWN_TIMEOUT_MS,
        (looking ?? Promise.resolve()).then(() =>
          releaseLeadership(patient(SHUTDOWN_TIMEOUT_MS), SETTING, id),
        ),
      );
    },
  };
}

/** `known`: undefined where this worker does not lead, or cannot look. */
function watchFigures(
  { metrics, presence }: Context,
  known: () => ClusterGauges | undefined,
): (() => void)[] {
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
  ];
}

/**
 * A broker does not tell the age of what nobody consumes, and that is when the age matters most: it has been there
 * since it was first seen, at least.
 */
async function withAges(db: Queryable, depths: readonly QueueDepth[]): Promise<QueueDepth[]> {
  const unknown = depths.filter((depth) => depth.oldestAgeMs === null).map((depth) => depth.queue);
  const ages = await estimateAges(db, unknown, MEMORY_SECONDS);
  return depths.map((depth) => ({ ...depth, oldestAgeMs: depth.oldestAgeMs ?? ages.get(depth.queue) ?? 0 }));
}
