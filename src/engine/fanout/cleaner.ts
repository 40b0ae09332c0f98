import { type Barrier, type Bus, type Consumer, type Delivery, STAGES } from '../bus/bus.ts';
import { failDelivery, halves } from '../bus/failDelivery.ts';
import { serialBatches } from '../bus/serialBatches.ts';
import type { Database } from '../database/database.ts';
import { decodeCleanup, encodeCleanup, invalidMessage, type PendingCleanup } from '../model/messages.ts';
import { isTransient } from '../resilience/classify.ts';
import { fillsEnded } from '../store/celebrities.ts';
import { removePairItems, removePostItems } from '../store/feeds.ts';
import { withPairLock } from '../store/follows.ts';
import type { Log } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { runConcurrently } from '../util/parallel.ts';
import type { Lanes } from './lanes.ts';

export interface CleanerContext {
  readonly db: Database;
  readonly bus: Bus;
  /** Without lanes nothing is ever paused. */
  readonly lanes?: Lanes | undefined;
  readonly log: Log;
  readonly metrics?: Metrics | undefined;
}

interface Cleanup {
  readonly what: readonly PendingCleanup[];
  readonly barrier: Barrier;
  /** Index of the stage that the barrier is in. */
  readonly step: number;
}

interface DueCleanup extends Cleanup {
  readonly delivery: Delivery;
}

const PREFETCH = 50;
const POLL_MS = 250;
/** Maximum pending cleanups of one message: 60 KB. */
const MAX_PENDING = 1_000;
/** Maximum removals at the same time, each on its own session. */
const CONCURRENCY = 4;

/**
 * Schedules another removal of rows for when every plan made until now is written. One barrier
 * serves all.
 */
export async function scheduleCleanup(bus: Bus, what: readonly PendingCleanup[]): Promise<void> {
  if (what.length > 0) await publishCleanups(bus, what, await bus.placeBarrier(STAGES[0]!), 0);
}

async function publishCleanups(
  bus: Bus,
  what: readonly PendingCleanup[],
  barrier: Barrier,
  step: number,
): Promise<void> {
  const parts = Array.from({ length: Math.ceil(what.length / MAX_PENDING) }, (_, i) =>
    what.slice(i * MAX_PENDING, (i + 1) * MAX_PENDING),
  );
  await bus.publish(
    parts.map((part) => ({ queue: 'cleanup', body: encodeCleanup({ what: part, mark: barrier, step }) })),
  );
}

/**
 * Removes rows that were written by plans older than an unfollow or a deletion. Every stage of the
 * bus must have passed the barrier, and every rebuild and backfill that had begun must be
 * committed. Cleanups that are due at the same time share one message and one newer barrier for the
 * next stage: a barrier costs about 50 ms.
 */
export function startCleaner(context: CleanerContext): Promise<Consumer> {
  const consume = () =>
    context.bus.consume(
      { queues: ['cleanup'], prefetch: PREFETCH },
      serialBatches((batch) => cleanUp(context, batch)),
    );
  // Cleanups wait for both lanes: while both are paused, none can continue.
  return context.lanes ? context.lanes.consume(['live', 'bulk'], consume) : consume();
}

async function cleanUp(context: CleanerContext, deliveries: readonly Delivery[]): Promise<void> {
  const due: DueCleanup[] = [];
  for (const delivery of deliveries) {
    try {
      const cleanup = decodePendingCleanups(delivery.body);
      if (await context.bus.hasPassed(cleanup.barrier)) due.push({ ...cleanup, delivery });
      else delivery.retry(POLL_MS, { counts: false });
    } catch (error) {
      failDelivery(delivery, error, context);
    }
  }
  for (const [step, group] of Map.groupBy(due, (one) => one.step)) {
    if (STAGES[step + 1]) await advance(context, group, step + 1);
    else await remove(context, group);
  }
}

function ackAll({ metrics }: CleanerContext, group: readonly DueCleanup[]): void {
  for (const { delivery } of group) delivery.ack();
  metrics?.count('feedctl_bus_handled_total', group.length, { queue: 'cleanup' });
}

/** Waits for the next stage of the bus. */
async function advance(context: CleanerContext, group: readonly DueCleanup[], step: number): Promise<void> {
  try {
    const barrier = await context.bus.placeBarrier(STAGES[step]!);
    await publishCleanups(
      context.bus,
      group.flatMap((one) => one.what),
      barrier,
      step,
    );
    ackAll(context, group);
  } catch (error) {
    for (const { delivery } of group) failDelivery(delivery, error, context);
  }
}

/** After a permanent failure messages, and then their contents, are halved until one is alone. */
async function remove(context: CleanerContext, group: readonly DueCleanup[]): Promise<void> {
  try {
    await fillsEnded(context.db);
    await runConcurrently(
      group.flatMap((one) => one.what),
      CONCURRENCY,
      (pending) => removePending(context.db, pending),
    );
    ackAll(context, group);
  } catch (error) {
    const [first] = group;
    if (isTransient(error)) {
      for (const { delivery } of group) failDelivery(delivery, error, context);
    } else if (group.length > 1) {
      for (const half of halves(group)) await remove(context, half);
    } else if (first!.what.length > 1) {
      await split(context, first!, error);
    } else {
      failDelivery(first!.delivery, error, context);
    }
  }
}

async function split(context: CleanerContext, cleanup: DueCleanup, reason: unknown): Promise<void> {
  try {
    for (const half of halves(cleanup.what))
      await publishCleanups(context.bus, half, cleanup.barrier, cleanup.step);
    cleanup.delivery.ack();
  } catch {
    failDelivery(cleanup.delivery, reason, context);
  }
}

async function removePending(db: Database, pending: PendingCleanup): Promise<void> {
  if ('post' in pending) {
    await removePostItems(db, pending.post);
    return;
  }
  const { pair } = pending;
  await db.withSession((session) => withPairLock(session, pair, () => removePairItems(session, pair)));
}

/** Throws BUS_MESSAGE_INVALID, also for a stage that this version does not have. */
export function decodePendingCleanups(body: Buffer): Cleanup {
  const { what, mark, step } = decodeCleanup(body);
  if (!STAGES[step]) throw invalidMessage(`is a cleanup of unknown stage ${step}`);
  return { what, barrier: mark as Barrier, step };
}
