import { type Bus, LASTING, type QueueDepth } from '../bus/bus.ts';
import { depthOf } from '../bus/depths.ts';
import type { Presence } from '../live/presence.ts';
import { messageOf } from '../model/errors.ts';
import { LANES, type LaneState } from '../model/lanes.ts';
import type { Database } from '../store/database.ts';
import { readLanes } from '../store/lanes.ts';
import { leadNoMore, leads } from '../store/lead.ts';
import { countGateways, countWorkers } from '../store/roles.ts';
import type { Log } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';

const LOOK_EVERY_MS = 10_000;
/** Two looks and a half. */
const LEASE_SECONDS = 25;
const SETTING = 'figures.leader';
/** Those of all gateways are one to whoever watches. */
const QUEUES = [...LASTING, 'live'] as const;
type Queue = (typeof QUEUES)[number];

interface Figures {
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
export function startClusterFigures(
  context: Context,
  options: { everyMs?: number; leaseSeconds?: number } = {},
): { stop(): Promise<void> } {
  const { db, bus, log, id } = context;
  const { everyMs = LOOK_EVERY_MS, leaseSeconds = LEASE_SECONDS } = options;
  const ages = new UnknownAges();
  let figures: Figures | undefined;
  let unwatch: (() => void)[] | undefined;
  const hide = () => {
    for (const stop of unwatch ?? []) stop();
    unwatch = undefined;
  };
  const look = async () => {
    if (!(await leads(db, SETTING, { id, leaseSeconds }))) return hide();
    const [depths, lanes, workers, gateways] = await Promise.all([
      bus.depths(),
      readLanes(db),
      countWorkers(db),
      countGateways(db),
    ]);
    figures = { depths: ages.filledIn(depths), lanes, workers, gateways };
    unwatch ??= watchFigures(context, () => figures!);
  };
  let looking: Promise<void> | undefined;
  const lookNow = () => {
    looking ??= look()
      .catch((error) => {
        hide();
        log.warn({ reason: messageOf(error) }, 'no figures of the cluster');
      })
      .finally(() => {
        looking = undefined;
      });
  };
  const timer = setInterval(lookNow, everyMs);
  lookNow();
  return {
    async stop() {
      clearInterval(timer);
      await looking;
      hide();
      await leadNoMore(db, SETTING, id);
    },
  };
}

function watchFigures({ metrics, presence }: Context, now: () => Figures): (() => void)[] {
  const ofQueue = (queue: Queue, value: (depth: QueueDepth) => number) => () =>
    now()
      .depths.filter(
        (depth) => depth.queue === queue || (queue === 'live' && depth.queue.startsWith('live.')),
      )
      .map(value);
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
  const lane = (name: string) => now().lanes.find((one) => one.lane === name);
  return [
    ...QUEUES.flatMap((queue) => {
      const [ready, unacked, dead] = [
        ofQueue(queue, (depth) => depth.ready),
        ofQueue(queue, (depth) => depth.unacked),
        ofQueue(queue, (depth) => depth.deadLetters),
      ];
      const ages = ofQueue(queue, (depth) => depth.oldestAgeMs ?? 0);
      return [
        metrics.watch('feedctl_queue_messages', () => sum(ready()), { queue, state: 'ready' }),
        metrics.watch('feedctl_queue_messages', () => sum(unacked()), { queue, state: 'unacked' }),
        metrics.watch('feedctl_queue_oldest_seconds', () => Math.max(0, ...ages()) / 1_000, { queue }),
        metrics.watch('feedctl_dead_letters', () => sum(dead()), { queue }),
      ];
    }),
    ...LANES.flatMap((name) => [
      metrics.watch('feedctl_lane_paused', () => (lane(name)?.paused ? 1 : 0), { lane: name }),
      metrics.watch('feedctl_lane_rate_limit', () => lane(name)?.throttled?.rowsPerSecond ?? 0, {
        lane: name,
      }),
    ]),
    metrics.watch('feedctl_workers', () => now().workers),
    metrics.watch('feedctl_gateways', () => now().gateways),
    metrics.watch('feedctl_online_users', () => presence.count),
  ];
}

/**
 * A broker does not tell the age of what nobody consumes, and that is when the age matters most: it has been there
 * since it was first seen, at least.
 */
class UnknownAges {
  readonly #since = new Map<string, number>();

  filledIn(depths: readonly QueueDepth[]): QueueDepth[] {
    const now = Date.now();
    for (const queue of this.#since.keys())
      if (depthOf(depths, queue).oldestAgeMs !== null) this.#since.delete(queue);
    return depths.map((depth) => {
      if (depth.oldestAgeMs !== null) return depth;
      const since = this.#since.get(depth.queue) ?? now;
      this.#since.set(depth.queue, since);
      return { ...depth, oldestAgeMs: now - since };
    });
  }
}
