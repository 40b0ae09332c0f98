import type { Bus, Delivery, DURABLE_QUEUES } from '../bus/bus.ts';
import { depthOf, messagesIn } from '../bus/depths.ts';
import { barrierPassed } from '../bus/drained.ts';
import { serialBatches } from '../bus/serialBatches.ts';
import type { Database } from '../database/database.ts';
import { workersOf } from '../fanout/laneControl.ts';
import { counted } from '../model/counted.ts';
import { FeedctlError } from '../model/errors.ts';
import type { MessageContent } from '../model/messageContent.ts';
import { type Operation, runOperation, saveProgress } from '../operations/run.ts';
import { type EventSpan, eventsAbout } from '../store/events.ts';
import { readLanes } from '../store/lanes.ts';
import { poll } from '../util/poll.ts';
import { type Composition, eventsBehind, lanesOfQueue, MessageTally } from './tally.ts';

interface Context {
  readonly db: Database;
  readonly bus: Bus;
}

export type DurableQueue = (typeof DURABLE_QUEUES)[number];

/** Messages in flight at a time, acked together. */
const PREFETCH = 100;
/** Messages that a plan peeks at. */
const PEEKED = 1_000;
/** Time that messages in flight have to be acked after the purge has ended. */
const STOP_TIMEOUT_MS = 5_000;
const POLL_MS = 200;

export interface PurgePlan {
  readonly queue: DurableQueue;
  /** Messages that wait in the queue. */
  readonly messages: number;
  /** Composition of the first 1,000 of them. */
  readonly composition: Composition;
  /** Events that do the messages' work if they are dispatched again. null: the log has none of them. */
  readonly redispatch: EventSpan | null;
}

export interface Purged {
  readonly queue: DurableQueue;
  readonly messages: number;
  readonly composition: Composition;
  readonly redispatch: EventSpan | null;
  readonly seconds: number;
  /** A signal ended the purge before the queue was empty. */
  readonly stopped: boolean;
}

interface PurgeOptions {
  readonly signal: AbortSignal;
  readonly onProgress?: (done: number) => void;
}

/**
 * Checks that no worker consumes the queue: workers would take a part of its messages, and the purge
 * cannot take those in flight. Throws QUEUE_CONSUMED.
 */
async function checkUnconsumed(db: Database, queue: DurableQueue): Promise<void> {
  const lanes = lanesOfQueue(queue);
  const workers = await workersOf(db, lanes);
  const consuming = workers.of - workers.standing;
  if (consuming === 0) return;
  const paused = (await readLanes(db)).filter((lane) => lane.paused).map((lane) => lane.lane);
  const lane = lanes.length > 1 ? 'all' : lanes[0]!;
  const isPaused = lanes.every((name) => paused.includes(name));
  const where = isPaused ? 'still in flight at' : 'consumed by';
  throw new FeedctlError(
    'QUEUE_CONSUMED',
    `messages of ${queue} are ${where} ${counted(consuming, 'worker')}`,
    {
      suggestions: [
        isPaused
          ? 'Wait until they have finished: `feedctl worker list` shows which have.'
          : `Run \`feedctl fanout pause --lane ${lane}\` first, ` +
            `and \`feedctl fanout resume --lane ${lane}\` afterwards.`,
      ],
    },
  );
}

/** Shows what a purge would remove. Throws QUEUE_CONSUMED. */
export async function planPurge({ db, bus }: Context, queue: DurableQueue): Promise<PurgePlan> {
  await checkUnconsumed(db, queue);
  const messages = depthOf(await bus.depths(), queue).ready;
  const tally = new MessageTally();
  const contents = (await bus.peek(queue, PEEKED)).map(({ body }) => tally.add(body));
  return { queue, messages, composition: tally.result(), redispatch: await spanOf(db, contents, null) };
}

/**
 * Removes every message that waits in a queue. It consumes and acks them, so that barriers in the
 * queue are passed. The events to dispatch again are saved before a message is acked: a purge that is
 * killed has recorded what it removed, and the next one continues.
 * Throws QUEUE_CONSUMED or OPERATION_RUNNING.
 */
export async function purgeQueue(
  context: Context,
  queue: DurableQueue,
  options: PurgeOptions,
): Promise<Purged> {
  await checkUnconsumed(context.db, queue);
  const work = { kind: 'queue.purge', key: queue, signal: options.signal };
  return runOperation<PurgeProgress, Purged>(context.db, work, async (run) => {
    const startedAt = performance.now();
    const purge = new Purge(context, queue, options, run);
    const stopped = await purge.run();
    return {
      ...purge.result(),
      seconds: Math.round(performance.now() - startedAt) / 1_000,
      stopped,
    };
  });
}

interface PurgeProgress {
  readonly redispatch: EventSpan | null;
}

class Purge {
  readonly #context: Context;
  readonly #queue: DurableQueue;
  readonly #options: PurgeOptions;
  readonly #operation: Operation<PurgeProgress>;
  readonly #tally = new MessageTally();
  /** Aborts when messages cannot be counted and acked. */
  readonly #failed = new AbortController();
  #redispatch: EventSpan | null;

  constructor(
    context: Context,
    queue: DurableQueue,
    options: PurgeOptions,
    operation: Operation<PurgeProgress>,
  ) {
    this.#context = context;
    this.#queue = queue;
    this.#options = options;
    this.#operation = operation;
    this.#redispatch = operation.progress?.redispatch ?? null;
  }

  /** Returns whether the caller's signal ended it before the queue was empty. */
  async run(): Promise<boolean> {
    const failed = this.#failed.signal;
    const consumer = await this.#context.bus.consume(
      { queues: [this.#queue], prefetch: PREFETCH },
      serialBatches((batch) => this.#take(batch)),
    );
    let stopped = false;
    try {
      await this.#emptied(AbortSignal.any([this.#operation.signal, failed]));
    } catch (error) {
      // `operation cancel` fails the operation; Ctrl-C returns what was removed.
      if (!failed.aborted && !this.#options.signal.aborted) throw error;
      stopped = true;
    } finally {
      await consumer.stop(failed.aborted ? 0 : STOP_TIMEOUT_MS);
    }
    failed.throwIfAborted();
    return stopped;
  }

  result(): Omit<Purged, 'seconds' | 'stopped'> {
    return {
      queue: this.#queue,
      messages: this.#tally.messages,
      composition: this.#tally.result(),
      redispatch: this.#redispatch,
    };
  }

  async #take(batch: readonly Delivery[]): Promise<void> {
    if (this.#failed.signal.aborted) return;
    const { db } = this.#context;
    try {
      const contents = batch.map(({ body }) => this.#tally.add(body));
      this.#redispatch = await spanOf(db, contents, this.#redispatch);
      const progress = { redispatch: this.#redispatch, messages: this.#tally.messages };
      await saveProgress(db, this.#operation.id, progress);
      for (const delivery of batch) delivery.ack();
      this.#options.onProgress?.(this.#tally.messages);
    } catch (error) {
      // The messages stay in the queue: stopping the consumer returns them.
      this.#failed.abort(error);
    }
  }

  /** Called after consuming has begun: a full queue has no room for a barrier. */
  async #emptied(signal: AbortSignal): Promise<void> {
    const { bus } = this.#context;
    // Cleanups wait for barriers themselves, so their queue has none.
    if (this.#queue !== 'cleanup') return barrierPassed(bus, [this.#queue], signal);
    const isEmpty = async () => messagesIn(depthOf(await bus.depths(), this.#queue)) === 0;
    await poll(isEmpty, { firstMs: 10, everyMs: POLL_MS, signal });
  }
}

/** Widens a span by the events that messages were made of. */
async function spanOf(
  db: Database,
  contents: readonly MessageContent[],
  known: EventSpan | null,
): Promise<EventSpan | null> {
  const spans = [known, await eventsAbout(db, contents.flatMap(eventsBehind))];
  const ids = contents.flatMap((content) =>
    content.kind === 'events' ? content.events.map((event) => event.id) : [],
  );
  for (const id of ids) spans.push({ fromId: id, toId: id });
  return spans.reduce<EventSpan | null>(
    (span, one) =>
      span && one
        ? { fromId: Math.min(span.fromId, one.fromId), toId: Math.max(span.toId, one.toId) }
        : (one ?? span),
    null,
  );
}
