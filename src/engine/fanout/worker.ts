import { randomUUID } from 'node:crypto';
import type { Bus } from '../bus/bus.ts';
import type { FeedChanges } from '../cache/changes.ts';
import type { Database } from '../database/database.ts';
import { WorkerHeartbeats } from '../fleet/heartbeat.ts';
import type { Readiness } from '../fleet/readiness.ts';
import { type Notifier, openNotifier } from '../live/notifier.ts';
import { openPresence, type Presence } from '../live/presence.ts';
import { messageOf } from '../model/errors.ts';
import { Resources } from '../resilience/resources.ts';
import type { ProcessStats } from '../stats/process.ts';
import type { DatabaseClock } from '../store/databaseClock.ts';
import { measureFeedStorage } from '../store/feedStorage.ts';
import type { Log } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { OutcomeLog } from '../telemetry/outcomeLog.ts';
import type { Tracing } from '../telemetry/tracing.ts';
import { everyTick } from '../util/ticks.ts';
import { startCleaner } from './cleaner.ts';
import { startClusterMetrics } from './clusterMetrics.ts';
import { type CheckedMessage, CopyBuffer } from './copyBuffer.ts';
import { followHandlers } from './followHandlers.ts';
import { type OpenLanes, openLanes } from './lanes.ts';
import { maintain } from './maintenance.ts';
import { startPlanner } from './planner.ts';
import { type FirstDelivery, type RowsPart, type RowWriterContext, writeRows } from './rowWriter.ts';
import { sweep } from './sweeper.ts';
import { startWriter } from './writer.ts';

const SWEEP_INTERVAL_MS = 1_000;
const LIVE_POLL_MS = 1_000;
const HEARTBEAT_MS = 5_000;
const MAINTENANCE_INTERVAL_MS = 15_000;
const STORAGE_INTERVAL_MS = 30_000;
/** Time for each part to drain when the start itself fails. */
const DEFAULT_DRAIN_MS = 10_000;

export interface Worker {
  readonly id: string;
  /** Feed rows written since the start. */
  readonly rowsWritten: number;
  /** Takes no more work, finishes what is in flight within the deadline, and requeues the rest. */
  stop(deadlineMs: number): Promise<void>;
}

interface WorkerContext {
  readonly db: Database;
  readonly bus: Bus;
  readonly clock: DatabaseClock;
  readonly readiness?: Pick<Readiness, 'differs'> | undefined;
  readonly changes: FeedChanges;
  readonly log: Log;
  readonly metrics?: Metrics | undefined;
  readonly tracing?: Tracing | undefined;
  readonly stats?: ProcessStats | undefined;
  readonly version: string;
  /** The process runs only this worker: `worker drain` may end it. */
  readonly drainable?: boolean | undefined;
  readonly onBatch?: ((messages: CheckedMessage[]) => void) | undefined;
}

/**
 * Starts a fan-out worker: planner, writer, cleaner and sweeper. Any number of workers share the
 * queues.
 */
export async function startWorker(context: WorkerContext): Promise<Worker> {
  const worker = new FanoutWorker(context);
  await worker.start();
  return worker;
}

class FanoutWorker implements Worker {
  readonly id = randomUUID();
  readonly #context: WorkerContext;
  readonly #resources = new Resources();
  readonly #heartbeats: WorkerHeartbeats;
  #rowsWritten = 0;
  #drainMs = DEFAULT_DRAIN_MS;

  constructor(context: WorkerContext) {
    const { version, drainable = false } = context;
    this.#context = context;
    this.#heartbeats = new WorkerHeartbeats(context, { id: this.id, version, drainable });
  }

  get rowsWritten(): number {
    return this.#rowsWritten;
  }

  async start(): Promise<void> {
    try {
      await this.#register();
      const lanes = await this.#openLanes();
      const presence = await this.#openPresence();
      const notifier = openNotifier(this.#context.bus, presence);
      // Started from the last stage and stopped from the first: messages in flight flow out.
      await this.#startWriter(lanes, notifier);
      await this.#startCleaner(lanes);
      await this.#startPlanner(lanes, notifier);
      this.#startClusterMetrics(presence);
      this.#startTasks(lanes);
    } catch (error) {
      await this.#resources.release(this.#context.log);
      throw error;
    }
  }

  async stop(deadlineMs: number): Promise<void> {
    this.#drainMs = deadlineMs;
    await this.#resources.release(this.#context.log);
  }

  async #register(): Promise<void> {
    await this.#heartbeats.send();
    this.#resources.add('registration', () => this.#heartbeats.unregister());
  }

  async #openLanes(): Promise<OpenLanes> {
    const { db, log } = this.#context;
    const lanes = await openLanes(db, log, () => {
      this.#heartbeats
        .send()
        .catch((error) => log.warn({ reason: messageOf(error) }, 'drained lane not reported'));
    });
    this.#resources.add('lanes', () => lanes.close());
    this.#heartbeats.pausedLanes = () => lanes.drained();
    return lanes;
  }

  async #openPresence(): Promise<Presence> {
    const { db, stats } = this.#context;
    const presence = await openPresence(db, (userId) => stats?.forget(userId));
    this.#resources.add('presence', () => presence.close());
    return presence;
  }

  #rowWriter(notifier: Notifier): RowWriterContext {
    const { db, clock, changes, log, metrics, tracing, onBatch } = this.#context;
    const onWritten = (rows: number, first: readonly FirstDelivery[]) => this.#countWritten(rows, first);
    return { db, clock, changes, notifier, log, metrics, tracing, onWritten, onBatch };
  }

  async #startWriter(lanes: OpenLanes, notifier: Notifier): Promise<void> {
    const writer = await startWriter({ ...this.#rowWriter(notifier), bus: this.#context.bus, lanes });
    this.#resources.add('writer', () => writer.stop(this.#drainMs));
  }

  async #startCleaner(lanes: OpenLanes): Promise<void> {
    const { db, bus, log, metrics } = this.#context;
    const cleaner = await startCleaner({ db, bus, lanes, log, metrics });
    this.#resources.add('cleaner', () => cleaner.stop(this.#drainMs));
  }

  async #startPlanner(lanes: OpenLanes, notifier: Notifier): Promise<void> {
    const { db, bus, clock, changes, log, metrics, tracing, stats } = this.#context;
    const relations = followHandlers;
    const rows = this.#rowWriter(notifier);
    const context = {
      ...{ db, bus, clock, lanes, changes, notifier, relations },
      writeRows: (parts: readonly RowsPart[]) => writeRows(rows, parts, new CopyBuffer()),
      ...{ log, metrics, tracing, stats },
    };
    const planner = await startPlanner(context);
    this.#resources.add('planner', () => planner.stop(this.#drainMs));
  }

  #startClusterMetrics(presence: Presence): void {
    const { db, bus, log, metrics } = this.#context;
    if (!metrics) return;
    const clusterMetrics = startClusterMetrics({ db, bus, presence, log, metrics, id: this.id });
    this.#resources.add('cluster metrics', () => clusterMetrics.stop());
  }

  #startTasks(lanes: OpenLanes): void {
    const { db, clock, log } = this.#context;
    const tasks = [
      every(SWEEP_INTERVAL_MS, 'sweeper', log, () => this.#sweep()),
      every(HEARTBEAT_MS, 'heartbeat', log, async () => {
        await this.#heartbeats.send();
        await lanes.refresh();
      }),
      every(LIVE_POLL_MS, 'broker and clock', log, () => this.#heartbeats.checkLive()),
      every(MAINTENANCE_INTERVAL_MS, 'maintenance', log, () => maintain(this.#context)),
      every(STORAGE_INTERVAL_MS, 'sizes of feed rows', log, () => measureFeedStorage(db, clock.now()), 'now'),
    ];
    this.#resources.add('timers', async () => {
      for (const task of tasks) await task.stop();
    });
  }

  async #sweep(): Promise<void> {
    const { db, bus, log, tracing, metrics } = this.#context;
    const swept = await sweep({ db, bus, log, tracing });
    metrics?.count('feedctl_events_swept_total', swept);
    if (swept > 0) log.info({ events: swept }, 'undispatched events published');
  }

  /**
   * Latency is recorded for the live lane only: the bulk lane waits while the live lane has work.
   */
  #countWritten(rows: number, first: readonly FirstDelivery[]): void {
    const { stats } = this.#context;
    this.#rowsWritten += rows;
    stats?.count('deliveries', rows);
    for (const { lane, rows, tookMs } of first) if (lane === 'live') stats?.recordLatency(tookMs, rows);
  }
}

/**
 * Runs `work` every `ms`, never twice at a time, with `now` once more at the start. After a failure the next
 * turn tries again.
 */
function every(
  ms: number,
  task: string,
  log: Log,
  work: () => Promise<void>,
  now?: 'now',
): { stop(): Promise<void> } {
  const outcomes = new OutcomeLog(log, task);
  let running: Promise<void> = Promise.resolve();
  let busy = false;
  const turn = () => {
    if (busy) return;
    busy = true;
    running = work()
      .then(() => outcomes.worked())
      .catch((error) => outcomes.failed(messageOf(error)))
      .finally(() => {
        busy = false;
      });
  };
  const end = everyTick(ms, turn);
  if (now) turn();
  return {
    async stop() {
      end();
      await running;
    },
  };
}
