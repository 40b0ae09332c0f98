import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type { Bus } from '../bus/bus.ts';
import type { FeedChanges } from '../cache/changes.ts';
import type { Database } from '../database/database.ts';
import { openNotifier } from '../live/notifier.ts';
import { openPresence } from '../live/presence.ts';
import { messageOf } from '../model/errors.ts';
import { Resources } from '../resilience/resources.ts';
import type { ProcessStats } from '../stats/process.ts';
import { unregisterWorker, workerHeartbeat } from '../store/processes.ts';
import type { Log } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Tracing } from '../telemetry/tracing.ts';
import { startCleaner } from './cleaner.ts';
import { startClusterMetrics } from './clusterMetrics.ts';
import type { CheckedMessage } from './copyBuffer.ts';
import { followHandlers } from './followHandlers.ts';
import { type OpenLanes, openLanes } from './lanes.ts';
import { maintain } from './maintenance.ts';
import { startPlanner } from './planner.ts';
import { sweep } from './sweeper.ts';
import { type FirstDelivery, startWriter } from './writer.ts';

const SWEEP_INTERVAL_MS = 1_000;
const BROKER_POLL_MS = 1_000;
const HEARTBEAT_MS = 5_000;
const MAINTENANCE_INTERVAL_MS = 15_000;

export interface Worker {
  readonly id: string;
  readonly rowsWritten: number;
  /** Takes no more work, finishes what it holds within the deadline, and gives the rest back. */
  stop(deadlineMs: number): Promise<void>;
}

/** A fan-out worker: planner, writer, cleaner and sweeper. Any number of them share the queues. */
export async function startWorker(context: {
  db: Database;
  bus: Bus;
  changes: FeedChanges;
  log: Log;
  metrics?: Metrics | undefined;
  tracing?: Tracing | undefined;
  stats?: ProcessStats | undefined;
  version: string;
  /** The process is nothing but this worker: `worker drain` may end it. */
  drainable?: boolean | undefined;
  onBatch?: ((messages: CheckedMessage[]) => void) | undefined;
}): Promise<Worker> {
  const { db, bus, changes, log, metrics, tracing, stats, version } = context;
  const id = randomUUID();
  const { drainable = false } = context;
  const identity = { id, host: hostname(), pid: process.pid, version, startedAt: new Date(), drainable };
  const resources = new Resources();
  let rowsWritten = 0;
  let lagMs: number | null = null;
  let last = { at: performance.now(), rowsWritten };
  let live: boolean | undefined;
  const isLive = async () => (await bus.health?.())?.ready ?? true;
  const beatNow = async (): Promise<void> => {
    const at = performance.now();
    const rowsPerSecond = ((rowsWritten - last.rowsWritten) * 1_000) / Math.max(1, at - last.at);
    last = { at, rowsWritten };
    const memoryBytes = process.memoryUsage.rss();
    const slowest = lagMs;
    lagMs = null;
    const reads = bus.reads?.() ?? null;
    const paused = lanes?.standing() ?? [];
    live = await isLive();
    const said = { rowsWritten, rowsPerSecond, lagMs: slowest, memoryBytes, reads, paused, live };
    await workerHeartbeat(db, identity, said);
  };
  let beating: Promise<void> = Promise.resolve();
  /** One after the other: what was said last is what is true. */
  const beat = (): Promise<void> => {
    beating = beating.catch(() => {}).then(beatNow);
    return beating;
  };
  let lanes: OpenLanes | undefined;
  let deadline = 10_000;
  try {
    await beat();
    resources.add('registration', () => unregisterWorker(db, id));
    const opened = await openLanes(db, log, () => {
      beat().catch((error) => log.warn({ reason: messageOf(error) }, 'not told that a lane stands'));
    });
    lanes = opened;
    resources.add('lanes', () => opened.close());
    const presence = await openPresence(db, (userId) => stats?.forget(userId));
    resources.add('presence', () => presence.close());
    const notifier = openNotifier(bus, presence);
    const onWritten = (rows: number, first: readonly FirstDelivery[]) => {
      rowsWritten += rows;
      stats?.count('deliveries', rows);
      for (const { lane, rows, tookMs } of first) {
        // The bulk lane waits for the live one: how long says nothing of how the cluster is.
        if (lane === 'bulk') continue;
        lagMs = Math.max(lagMs ?? 0, tookMs);
        stats?.recordLatency(tookMs, rows);
      }
    };
    // Started from the end of the path and stopped from its beginning: what is under way flows out.
    const writer = await startWriter({
      db,
      bus,
      lanes,
      changes,
      notifier,
      log,
      metrics,
      tracing,
      onWritten,
      onBatch: context.onBatch,
    });
    resources.add('writer', () => writer.stop(deadline));
    const cleaner = await startCleaner({ db, bus, lanes, log, metrics });
    resources.add('cleaner', () => cleaner.stop(deadline));
    const planner = await startPlanner({
      db,
      bus,
      lanes,
      changes,
      notifier,
      relations: followHandlers,
      log,
      metrics,
      tracing,
      stats,
    });
    resources.add('planner', () => planner.stop(deadline));
    if (metrics) {
      const clusterMetrics = startClusterMetrics({ db, bus, presence, log, metrics, id });
      resources.add('cluster metrics', () => clusterMetrics.stop());
    }
    const tasks = [
      every(SWEEP_INTERVAL_MS, 'sweeper', log, async () => {
        const swept = await sweep({ db, bus, log, tracing });
        metrics?.count('feedctl_events_swept_total', swept);
        if (swept > 0) log.info({ events: swept }, 'undispatched events published');
      }),
      every(HEARTBEAT_MS, 'heartbeat', log, async () => {
        await beat();
        await opened.refresh();
      }),
      every(BROKER_POLL_MS, 'look at the broker', log, async () => {
        if ((await isLive()) !== live) await beat();
      }),
      every(MAINTENANCE_INTERVAL_MS, 'maintenance', log, () => maintain(db, bus, log)),
    ];
    resources.add('timers', async () => {
      for (const task of tasks) await task.stop();
    });
  } catch (error) {
    await resources.release(log);
    throw error;
  }
  return {
    id,
    get rowsWritten() {
      return rowsWritten;
    },
    async stop(deadlineMs) {
      deadline = deadlineMs;
      await resources.release(log);
    },
  };
}

/** Runs `work` every `ms`, never twice at a time. A failure is logged and tried again at the next turn. */
function every(ms: number, name: string, log: Log, work: () => Promise<void>): { stop(): Promise<void> } {
  let running: Promise<void> = Promise.resolve();
  let busy = false;
  const timer = setInterval(() => {
    if (busy) return;
    busy = true;
    running = work()
      .catch((error) => log.warn({ task: name, reason: messageOf(error) }, 'task failed'))
      .finally(() => {
        busy = false;
      });
  }, ms);
  return {
    async stop() {
      clearInterval(timer);
      await running;
    },
  };
}
