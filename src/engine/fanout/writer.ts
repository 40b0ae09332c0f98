import { setTimeout as sleep } from 'node:timers/promises';
import type { Bus, Consumer, Delivery, QueueName } from '../bus/bus.ts';
import { failDelivery, halves } from '../bus/failDelivery.ts';
import type { LaneName } from '../model/lanes.ts';
import { readRows } from '../model/rowsMessage.ts';
import { isTransient } from '../resilience/classify.ts';
import { Throttle } from '../util/throttle.ts';
import { CopyBuffer } from './copyBuffer.ts';
import type { Lanes } from './lanes.ts';
import { ROWS_QUEUES, type RowsPart, type RowWriterContext, writeRows } from './rowWriter.ts';

/** Rows of one COPY: about 60 ms. Half as many wrote 10% less a second, twice as many no more. */
const ROWS_A_BATCH = 32_768;
/**
 * Batches in flight, each one transaction: two are written on two cores while the third commits and
 * notifies.
 */
const PARALLEL = 3;
/** Bulk batches in flight: the third place is always free for live rows. */
const PARALLEL_BULK = 2;
/**
 * Bulk batches are shorter, because this process does nothing else while it expands one. Even shorter ones
 * spend more on transactions and acks.
 */
const LANES = {
  live: { queue: ROWS_QUEUES.live, prefetch: 32, rowsABatch: ROWS_A_BATCH },
  bulk: { queue: ROWS_QUEUES.bulk, prefetch: 16, rowsABatch: 16_384 },
} as const;
/** On Citus a COPY of each shard costs the coordinator some milliseconds, so batches are big. */
const SHARDED = { rowsABatch: 65_536, prefetch: 64 } as const;
/** Time that the first message of a batch waits for others. */
const LINGER_MS = 2;

/** Longer than a consumer takes to stop, so that a requeued message does not return to it. */
const REQUEUE_DELAY_MS = 1_000;

export interface WriterContext extends RowWriterContext {
  readonly bus: Bus;
  /** Without lanes nothing is ever paused or throttled. */
  readonly lanes?: Lanes | undefined;
}

interface Part extends RowsPart {
  readonly delivery: Delivery;
}

/**
 * Writes feed rows: coalesces messages into batches, commits, notifies caches and sockets, and acks
 * last.
 */
export async function startWriter(context: WriterContext): Promise<Consumer> {
  const { distributed } = await context.db.sharding();
  const live = new WaitingMessages(distributed ? SHARDED.rowsABatch : LANES.live.rowsABatch);
  const bulk = new WaitingMessages(distributed ? SHARDED.rowsABatch : LANES.bulk.rowsABatch);
  const idle = Array.from({ length: PARALLEL }, () => new CopyBuffer());

  let bulkBatches = 0;
  const due = (): WaitingMessages | undefined =>
    [live, bulk].find((lane) => lane.isDue && (lane === live || bulkBatches < PARALLEL_BULK));
  const work = async (rows: CopyBuffer) => {
    for (let lane = due(); lane; lane = due()) {
      if (lane === bulk) bulkBatches += 1;
      if (lane.rows < lane.rowsABatch) await sleep(LINGER_MS);
      const batch = lane.take();
      if (batch.length > 0) await writeParts(context, batch, rows);
      if (lane === bulk) bulkBatches -= 1;
    }
    idle.push(rows);
    wakeLater();
  };
  /** Wakes a throttled lane that has messages when it may write again. */
  let timer: NodeJS.Timeout | undefined;
  const wakeLater = () => {
    clearTimeout(timer);
    const waits = [live, bulk].filter((lane) => !lane.isEmpty).map((lane) => lane.pace.waitMs);
    if (waits.length === 0) return;
    timer = setTimeout(
      () => {
        if (idle.length > 0) void work(idle.pop()!);
      },
      Math.ceil(Math.min(...waits)),
    );
  };
  const { lanes } = context;
  const setRates = () => {
    live.pace.setRate(lanes?.rate('live'));
    bulk.pace.setRate(lanes?.rate('bulk'));
    wakeLater();
  };
  lanes?.onChange(setRates);
  setRates();
  const consume = async (name: LaneName, prefetch: number, lane: WaitingMessages): Promise<Consumer> => {
    const open = () => consumeLane(LANES[name].queue, prefetch, lane);
    return lanes ? lanes.consume([name], open) : open();
  };
  const consumeLane = async (
    queue: QueueName,
    prefetch: number,
    lane: WaitingMessages,
  ): Promise<Consumer> => {
    let stopping = false;
    const consumer = await context.bus.consume({ queues: [queue], prefetch }, (deliveries) => {
      for (const delivery of deliveries) {
        if (stopping && lane.pace.isLimited) {
          requeue(delivery);
          continue;
        }
        try {
          const { records, ...header } = readRows(delivery.body);
          lane.add({ delivery, header, count: records, body: delivery.body });
        } catch (error) {
          failDelivery(delivery, error, context);
        }
      }
      while (idle.length > 0 && due()) {
        void work(idle.pop()!);
        if (lane.rows < lane.rowsABatch) break;
      }
      if (!lane.isDue) wakeLater();
    });
    return {
      async stop(deadlineMs) {
        stopping = true;
        const stopped = consumer.stop(deadlineMs);
        // Waiting messages would be written only as fast as the throttle allows.
        if (lane.pace.isLimited) for (const { delivery } of lane.takeAll()) requeue(delivery);
        await stopped;
      },
    };
  };
  const consumers = await Promise.all([
    consume('live', distributed ? SHARDED.prefetch : LANES.live.prefetch, live),
    consume('bulk', LANES.bulk.prefetch, bulk),
  ]);
  return {
    async stop(deadlineMs) {
      await Promise.all(consumers.map((consumer) => consumer.stop(deadlineMs)));
      clearTimeout(timer);
    },
  };
}

const requeue = (delivery: Delivery): void => delivery.retry(REQUEUE_DELAY_MS, { counts: false });

/** Messages of one lane that wait for a batch. */
class WaitingMessages {
  readonly rowsABatch: number;
  readonly pace = new Throttle();
  #parts: Part[] = [];
  rows = 0;

  constructor(rowsABatch: number) {
    this.rowsABatch = rowsABatch;
  }

  get isEmpty(): boolean {
    return this.#parts.length === 0;
  }

  /** True if messages wait and the throttle allows to write. */
  get isDue(): boolean {
    return !this.isEmpty && this.pace.waitMs === 0;
  }

  add(part: Part): void {
    this.#parts.push(part);
    this.rows += part.count;
  }

  takeAll(): Part[] {
    this.rows = 0;
    return this.#parts.splice(0);
  }

  /**
   * Removes and returns the oldest messages, up to a batch. A batch notifies sockets of all its
   * messages or of none.
   */
  take(): Part[] {
    // Another batch may have begun while this one waited for more messages.
    if (!this.isDue) return [];
    const maxRows = this.pace.maxBatch(this.rowsABatch);
    let rows = 0;
    let count = 0;
    for (const part of this.#parts) {
      if (rows >= maxRows || part.header.feedsOnly !== this.#parts[0]!.header.feedsOnly) break;
      rows += part.count;
      count += 1;
    }
    this.rows -= rows;
    this.pace.spend(rows);
    return this.#parts.splice(0, count);
  }
}

/**
 * Writes a batch. After a permanent failure the batch is halved until the faulty message is alone:
 * one faulty message of n costs about 2 log n more tries, and all others are written.
 */
async function writeParts(context: WriterContext, parts: Part[], buffer: CopyBuffer): Promise<void> {
  try {
    await writeRows(context, parts, buffer);
    for (const part of parts) part.delivery.ack();
    context.metrics?.count('feedctl_bus_handled_total', parts.length, { queue: parts[0]!.delivery.queue });
  } catch (error) {
    if (parts.length === 1 || isTransient(error)) {
      for (const part of parts) failDelivery(part.delivery, error, context);
    } else {
      for (const half of halves(parts)) await writeParts(context, half, buffer);
    }
  }
}
