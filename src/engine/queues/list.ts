import { setTimeout as sleep } from 'node:timers/promises';
import { type Bus, DURABLE_QUEUES, type QueueDepth, type QueueName, type Throughput } from '../bus/bus.ts';
import { depthOf, messagesIn } from '../bus/depths.ts';
import type { Database } from '../database/database.ts';
import { isFeedctlError } from '../model/errors.ts';
import { MAX_ID } from '../model/ids.ts';
import type { LaneState } from '../model/lanes.ts';
import { type MessageContent, messageContent } from '../model/messageContent.ts';
import { anyUndispatched } from '../store/events.ts';
import { readLanes } from '../store/lanes.ts';
import { type Composition, lanesOfQueue, MessageTally } from './tally.ts';

interface Context {
  readonly db: Database;
  readonly bus: Bus;
}

export interface QueueRow extends QueueDepth {
  /** Every lane that it belongs to is paused. */
  readonly paused: boolean;
  /** Messages a second that came and that left for good; null where no time has passed yet. */
  readonly inPerSecond: number | null;
  readonly outPerSecond: number | null;
  /** Until it is empty, as things go; null where it does not get shorter. */
  readonly etaSeconds: number | null;
}

export interface QueueSample {
  readonly atMs: number;
  readonly depths: readonly QueueDepth[];
  readonly settled: readonly Throughput[];
  readonly lanes: readonly LaneState[];
  /** Events are committed that no queue has yet. */
  readonly outbox: boolean;
}

async function look({ db, bus }: Context): Promise<QueueSample> {
  const outbox = await anyUndispatched(db, MAX_ID);
  const settled = await bus.throughput();
  return { depths: await bus.depths(), settled, atMs: Date.now(), lanes: await readLanes(db), outbox };
}

/** What has left a queue a second between two looks, by each member's own clock of notes. */
function leftPerSecond(queue: string, before: QueueSample, now: QueueSample): number {
  let rate = 0;
  for (const after of now.settled) {
    if (after.queue !== queue) continue;
    const first = before.settled.find((one) => one.member === after.member && one.queue === queue);
    // One that has just begun counts from nothing: its first second is not known.
    if (first && after.atMs > first.atMs)
      rate += ((after.count - first.count) * 1_000) / (after.atMs - first.atMs);
  }
  return rate;
}

const tenths = (value: number): number => Math.round(value * 10) / 10;

/** A row for each queue, empty or not; gateways' queues only where something is in them. */
export function queueRows(before: QueueSample | undefined, now: QueueSample): QueueRow[] {
  const others = now.depths
    .map((depth) => depth.queue)
    .filter((queue) => !(DURABLE_QUEUES as readonly string[]).includes(queue));
  const pausedLanes = now.lanes.filter((lane) => lane.paused).map((lane) => lane.lane);
  return [...DURABLE_QUEUES, ...others].map((queue) => {
    const depth = depthOf(now.depths, queue);
    const lanes = lanesOfQueue(queue);
    const paused = lanes.length > 0 && lanes.every((lane) => pausedLanes.includes(lane));
    if (!before) return { ...depth, paused, inPerSecond: null, outPerSecond: null, etaSeconds: null };
    const inside = messagesIn(depth);
    const grown = ((inside - messagesIn(depthOf(before.depths, queue))) * 1_000) / (now.atMs - before.atMs);
    const left = leftPerSecond(queue, before, now);
    const came = Math.max(0, left + grown);
    // What is noted of a queue that gets shorter may be a second old: the depth itself is not.
    const gone = Math.max(left, came - grown);
    return {
      ...depth,
      paused,
      inPerSecond: tenths(came),
      outPerSecond: tenths(gone),
      etaSeconds: inside === 0 ? 0 : grown < 0 ? tenths(inside / -grown) : null,
    };
  });
}

export interface QueueView {
  readonly queues: readonly QueueRow[];
  readonly lanes: readonly LaneState[];
  /** Events are committed that no queue has yet: for milliseconds, or where queues are full or the bus is away. */
  readonly outbox: boolean;
  /** Nothing waits or is in hand, as two looks in a row have found: what a member holds is told a second late. */
  readonly empty: boolean;
}

/**
 * How the queues are, once at first, without rates, and then after each interval. `only`: these queues. Ends where the
 * signal aborts.
 */
export async function* watchQueues(
  context: Context,
  options: { intervalMs: number; signal: AbortSignal; only?: readonly string[] | undefined },
): AsyncGenerator<QueueView> {
  const { intervalMs, signal, only } = options;
  let before: QueueSample | undefined;
  let emptyBefore = false;
  while (!signal.aborted) {
    const now = await look(context);
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

/** Once, with rates over the interval; without them where it is 0. */
export async function listQueues(
  context: Context,
  options: { intervalMs: number; signal: AbortSignal; only?: readonly string[] | undefined },
): Promise<QueueView> {
  let view = FIRST_LOOK;
  for await (view of watchQueues(context, options))
    if (options.intervalMs === 0 || view.queues.every((row) => row.inPerSecond !== null)) break;
  return view;
}

/** A queue that is above a limit. */
export interface Above {
  readonly queue: string;
  readonly what: 'ready' | 'ageMs';
  /** null: not known, as nobody consumes what waits there. */
  readonly value: number | null;
  readonly limit: number;
}

/** An age that cannot be told counts as above: messages wait, and nobody takes them. */
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
  /** Of the messages that were looked at; null where they cannot be. */
  readonly composition: Composition | null;
  readonly reason: string | null;
}

/** Who and what makes up the first messages of each queue in which any wait. */
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

/** The first messages that wait in a queue, read. Throws QUEUE_CONSUMED. */
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
