import { setTimeout as sleep } from 'node:timers/promises';
import { type Bus, DURABLE_QUEUES, type QueueName, type Throughput } from '../bus/bus.ts';
import { depthOf, messagesIn } from '../bus/depths.ts';
import type { Database } from '../database/database.ts';
import { isFeedctlError } from '../model/errors.ts';
import { MAX_ID } from '../model/ids.ts';
import type { LaneState } from '../model/lanes.ts';
import { type MessageContent, messageContent } from '../model/messageContent.ts';
import { anyUndispatched } from '../store/events.ts';
import { readLanes } from '../store/lanes.ts';
import { tenths } from '../util/numbers.ts';
import { type QueueBacklog, readBacklog, recordUnit } from './backlog.ts';
import { type Composition, lanesOfQueue, MessageTally } from './tally.ts';

interface Context {
  readonly db: Database;
  readonly bus: Bus;
}

export interface QueueRow extends QueueBacklog {
  /** Every lane of the queue is paused. */
  readonly paused: boolean;
  /** Messages per second that were published, and that were acked or dead-lettered. null: first sample. */
  readonly inPerSecond: number | null;
  readonly outPerSecond: number | null;
  /** Seconds until it is empty at the current rates. null: it does not get shorter. */
  readonly etaSeconds: number | null;
}

export interface QueueSample {
  readonly atMs: number;
  readonly depths: readonly QueueBacklog[];
  readonly settled: readonly Throughput[];
  readonly lanes: readonly LaneState[];
  /** Committed events are in no queue yet. */
  readonly outbox: boolean;
}

async function takeSample({ db, bus }: Context): Promise<QueueSample> {
  const outbox = await anyUndispatched(db, MAX_ID);
  const settled = await bus.throughput();
  return { depths: await readBacklog(bus), settled, atMs: Date.now(), lanes: await readLanes(db), outbox };
}

/** Returns the messages per second that left a queue between two samples, by the times of the reports. */
function leftPerSecond(queue: string, before: QueueSample, now: QueueSample): number {
  let rate = 0;
  for (const after of now.settled) {
    if (after.queue !== queue) continue;
    const first = before.settled.find((one) => one.member === after.member && one.queue === queue);
    // A member without an earlier report has no rate yet.
    if (first && after.atMs > first.atMs)
      rate += ((after.count - first.count) * 1_000) / (after.atMs - first.atMs);
  }
  return rate;
}

/** Returns the backlog of a queue. A queue without messages is missing in the sample. */
function backlogOf({ depths }: QueueSample, queue: string): QueueBacklog {
  const found = depths.find((one) => one.queue === queue);
  if (found) return found;
  const unit = recordUnit(queue);
  return { ...depthOf([], queue), recordUnit: unit, records: unit && 0 };
}

/** Returns a row for each durable queue, and for gateways' queues that have messages. */
export function queueRows(before: QueueSample | undefined, now: QueueSample): QueueRow[] {
  const temporary = now.depths
    .map((depth) => depth.queue)
    .filter((queue) => !(DURABLE_QUEUES as readonly string[]).includes(queue));
  const pausedLanes = now.lanes.filter((lane) => lane.paused).map((lane) => lane.lane);
  return [...DURABLE_QUEUES, ...temporary].map((queue) => {
    const depth = backlogOf(now, queue);
    const lanes = lanesOfQueue(queue);
    const paused = lanes.length > 0 && lanes.every((lane) => pausedLanes.includes(lane));
    if (!before) return { ...depth, paused, inPerSecond: null, outPerSecond: null, etaSeconds: null };
    const messages = messagesIn(depth);
    const growth =
      ((messages - messagesIn(depthOf(before.depths, queue))) * 1_000) / (now.atMs - before.atMs);
    const left = leftPerSecond(queue, before, now);
    const arrived = Math.max(0, left + growth);
    // Throughput may be a second old, the depth is not: it shows what has left since.
    const departed = Math.max(left, arrived - growth);
    return {
      ...depth,
      paused,
      inPerSecond: tenths(arrived),
      outPerSecond: tenths(departed),
      etaSeconds: messages === 0 ? 0 : growth < 0 ? tenths(messages / -growth) : null,
    };
  });
}

export interface QueueView {
  readonly queues: readonly QueueRow[];
  readonly lanes: readonly LaneState[];
  /** Committed events are in no queue yet: for milliseconds, longer while the bus is down. */
  readonly outbox: boolean;
  /** No message waits or is in flight, in two samples: members report those in flight a second late. */
  readonly empty: boolean;
}

/**
 * Yields the state of the queues: first without rates, then after each interval. `only`: these queues.
 * Ends when the signal aborts.
 */
export async function* watchQueues(
  context: Context,
  options: { intervalMs: number; signal: AbortSignal; only?: readonly string[] | undefined },
): AsyncGenerator<QueueView> {
  const { intervalMs, signal, only } = options;
  let before: QueueSample | undefined;
  let emptyBefore = false;
  while (!signal.aborted) {
    const now = await takeSample(context);
    const queues = queueRows(before, now).filter(({ queue }) => !only || only.includes(queue));
    before = now;
    const { lanes, outbox } = now;
    const emptyNow = queues.every((row) => messagesIn(row) === 0) && (!outbox || only !== undefined);
    yield { queues, lanes, outbox, empty: emptyNow && emptyBefore };
    emptyBefore = emptyNow;
    await sleep(intervalMs, undefined, { signal }).catch(() => {});
  }
}

export const FIRST_LOOK: QueueView = { queues: [], lanes: [], outbox: false, empty: false };

/** Returns the state of the queues with rates over the interval. 0: without rates. */
export async function listQueues(
  context: Context,
  options: { intervalMs: number; signal: AbortSignal; only?: readonly string[] | undefined },
): Promise<QueueView> {
  let view = FIRST_LOOK;
  for await (view of watchQueues(context, options))
    if (options.intervalMs === 0 || view.queues.every((row) => row.inPerSecond !== null)) break;
  return view;
}

/** A queue above a limit. */
export interface Above {
  readonly queue: string;
  readonly what: 'ready' | 'ageMs';
  /** null: an age that is not known, as the queue has no consumer. */
  readonly value: number | null;
  readonly limit: number;
}

/** Returns the queues above a limit. An age that is not known counts: messages wait without a consumer. */
export function aboveLimits(
  queues: readonly QueueRow[],
  limits: { maxReady?: number | undefined; maxAgeMs?: number | undefined },
): Above[] {
  const { maxReady, maxAgeMs } = limits;
  return queues.flatMap(({ queue, ready, oldestAgeMs }): Above[] => [
    ...(maxReady !== undefined && ready > maxReady
      ? [{ queue, what: 'ready' as const, value: ready, limit: maxReady }]
      : []),
    ...(maxAgeMs !== undefined && (oldestAgeMs === null || oldestAgeMs > maxAgeMs)
      ? [{ queue, what: 'ageMs' as const, value: oldestAgeMs, limit: maxAgeMs }]
      : []),
  ]);
}

export interface QueueDetail {
  readonly queue: string;
  /** Composition of the first messages. null: a consumer prevents peeking. */
  readonly composition: Composition | null;
  readonly reason: string | null;
}

/** Returns the composition of the first messages of each queue that has any. */
export async function queueDetails(
  { bus }: Context,
  queues: readonly QueueRow[],
  limit: number,
): Promise<QueueDetail[]> {
  const details: QueueDetail[] = [];
  for (const { queue, ready } of queues) {
    if (ready === 0 || queue === 'live') continue;
    try {
      const tally = new MessageTally();
      for (const { body } of await bus.peek(queue as QueueName, limit)) tally.add(body);
      details.push({ queue, composition: tally.result(), reason: null });
    } catch (error) {
      if (!isFeedctlError(error, 'QUEUE_CONSUMED')) throw error;
      details.push({ queue, composition: null, reason: error.message });
    }
  }
  return details;
}

export interface PeekedMessage {
  readonly publishedAt: Date | null;
  readonly deliveries: number;
  readonly bytes: number;
  readonly content: MessageContent;
}

/** Returns the decoded first messages that wait in a queue. Throws QUEUE_CONSUMED. */
export async function peekQueue(
  { bus }: Context,
  queue: QueueName,
  limit: number,
): Promise<{ queue: string; ready: number; messages: PeekedMessage[] }> {
  const { ready } = depthOf(await bus.depths(), queue);
  const messages = (await bus.peek(queue, limit)).map(({ body, publishedAt, deliveries }) => ({
    publishedAt,
    deliveries,
    bytes: body.length,
    content: messageContent(body),
  }));
  return { queue, ready, messages };
}
