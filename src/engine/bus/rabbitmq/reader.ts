import { setTimeout as sleep } from 'node:timers/promises';
import type { Channel, ChannelModel, ConsumeMessage } from 'amqplib';
import { FeedctlError, messageOf } from '../../model/errors.ts';
import { idsOfMessage } from '../../model/messageIds.ts';
import type { Log } from '../../telemetry/log.ts';
import type { InFlight } from './inFlight.ts';
import { ORIGIN, type Origins, type Verdict } from './origins.ts';

export interface ReaderContext {
  readonly log: Log;
  /** Maximum messages in this process, delivered or not. */
  readonly prefetch: number;
  readonly origins: Origins;
  /** Called when consumption begins or stops. */
  onConsumed(consumed: boolean): void;
  /** Called when a message can be delivered. */
  onReady(): void;
  /** Called when a message is acked. */
  onSettled(): void;
  /** Called when the consumer has settled a message: another can be delivered. */
  onDone(message: InFlight): void;
  /** Publishes a dead letter. Resolves when the broker has confirmed it. */
  deadLetter(queue: string, message: InFlight, reason: string): Promise<void>;
  /** Counts the messages that wait in a queue at the broker. 0 for a queue that does not exist. */
  count(name: string): Promise<number>;
  /** Records that this queue has reached barriers. */
  passBarriers(name: string, ids: number[]): Promise<void>;
}

/** Message type of a barrier's marker. Its correlation id is the barrier's. */
export const BARRIER_TYPE = 'feedctl.mark';
/** Header: earliest delivery, in unix milliseconds of the publisher. */
export const NOT_BEFORE = 'not-before';
/** Header: milliseconds from publishing to the earliest delivery. */
export const DELAY = 'delay-ms';
/** Header: trace contexts of the records in the message. */
export const TRACES = 'feedctl-traces';
const DEAD_LETTER_RETRY_MS = 1_000;
const BARRIER_RETRY_MS = 500;
const JUDGE_RETRY_MS = 1_000;
/**
 * Time between two looks at a queue with a message that is not this cluster's: doubles up to the maximum.
 * Each look counts a delivery of that message, of 100: looks become rarer once they have used a third.
 */
const LOOK_FIRST_MS = 5_000;
const LOOK_MAX_MS = 60_000;
const SOON_LOOKS = 33;
const RARE_LOOK_MAX_MS = 600_000;
/** Time between two counts of the messages in such a queue. If there are fewer, it is looked at. */
const COUNT_MS = 5_000;
/** Time between two questions to the database, where an operator may have adopted such messages. */
const ADOPTED_POLL_MS = 1_000;
/** A broker with more messages for a consumer sends them within this time. */
const FILLED_MS = 1_000;
/** Longest timer of a wait without deadline. */
const MAX_WAIT_MS = 60_000;

/** Returns the milliseconds until the next look at a refused queue, by the number of looks so far. */
export function nextLookMs(looks: number): number {
  const soon = Math.min(LOOK_MAX_MS, LOOK_FIRST_MS * 2 ** (looks - 1));
  return looks <= SOON_LOOKS ? soon : Math.min(RARE_LOOK_MAX_MS, LOOK_MAX_MS * 2 ** (looks - SOON_LOOKS));
}

/**
 * Returns the milliseconds that a message still waits. Its time of delivery is that of another machine,
 * whose clock may be ahead: after its arrival no message waits longer than its whole delay.
 */
function remainingDelay(headers: Record<string, unknown>): number {
  const notBefore = Number(headers[NOT_BEFORE] ?? 0);
  const delayMs = Number(headers[DELAY] ?? Number.POSITIVE_INFINITY);
  return Math.max(0, Math.min(notBefore - Date.now(), delayMs));
}

/** A message that is not this cluster's, at the head of the queue. */
interface Refusal {
  readonly error: FeedctlError;
  readonly origin: string;
  readonly publishedAtMs: number;
  readonly looks: number;
  readonly lookAt: number;
  askAt: number;
  countAt: number;
  /** Messages in the queue at the last count. */
  count: number | undefined;
}

interface ArrivedBarrier {
  readonly seq: number;
  readonly id: number;
  readonly message: ConsumeMessage;
}

/**
 * Consumes one queue of the broker, on its own channel. It outlives connections: messages of an earlier
 * connection may still be in flight.
 */
export class Reader {
  readonly queue: string;
  readonly name: string;
  readonly #context: ReaderContext;
  #channel: Channel | undefined;
  /** In order of arrival. Orphaned messages stay until the consumer has settled them. */
  readonly #inFlight = new Map<number, InFlight>();
  /** Messages to deliver. Those whose delay is over are delivered before new ones. */
  readonly #due: InFlight[] = [];
  #arrived: InFlight[] = [];
  /** Messages that arrived behind one whose origin is not known yet. */
  #unjudged: InFlight[] = [];
  #judging = false;
  #refusal: Refusal | undefined;
  /** Opened with a prefetch of one, to look at the message that was refused. */
  #looking = false;
  #barriers: ArrivedBarrier[] = [];
  #passingBarriers = false;
  #seq = 0;
  #dispatchedCount = 0;
  #retiring = false;
  #opening: Promise<void> | undefined;
  /** Time of the opening, or at which the broker could last send no more messages, by the monotonic clock. */
  #filledAt = 0;
  #settled = Promise.withResolvers<void>();

  constructor(queue: string, name: string, context: ReaderContext) {
    this.queue = queue;
    this.name = name;
    this.#context = context;
  }

  /** Number of delivered messages that are not settled. */
  get dispatched(): number {
    return this.#dispatchedCount;
  }

  /** Number of messages that are not delivered yet. */
  get waiting(): number {
    let count = 0;
    for (const message of this.#inFlight.values()) if (!message.dispatched && !message.orphaned) count += 1;
    return count;
  }

  get oldestMs(): number | undefined {
    const first = this.#inFlight.values().next().value;
    return first?.publishedAtMs;
  }

  get isOpen(): boolean {
    return this.#channel !== undefined;
  }

  /** The broker has had no more messages for this consumer for a second. */
  get isDrained(): boolean {
    if (this.#isFilled) this.#filledAt = performance.now();
    return this.isOpen && !this.#looking && performance.now() - this.#filledAt > FILLED_MS;
  }

  get #isFilled(): boolean {
    return this.#inFlight.size + this.#barriers.length >= this.#context.prefetch;
  }

  get retiring(): boolean {
    return this.#retiring;
  }

  get refusal(): FeedctlError | undefined {
    return this.#refusal?.error;
  }

  /** Returns false while a message in the queue is known not to be this cluster's. Never rejects. */
  async mayOpen(): Promise<boolean> {
    const refusal = this.#refusal;
    if (!refusal || performance.now() >= refusal.lookAt) return true;
    if (await this.#hasFewer(refusal)) return true;
    if (performance.now() < refusal.askAt) return false;
    refusal.askAt = performance.now() + ADOPTED_POLL_MS;
    const verdict = await this.#context.origins
      .judge(refusal.origin, refusal.publishedAtMs)
      .catch(() => refusal.error);
    if (verdict instanceof FeedctlError) return false;
    this.#refusal = undefined;
    return true;
  }

  /** Returns whether messages have left the queue since the last count: perhaps the one that was refused. */
  async #hasFewer(refusal: Refusal): Promise<boolean> {
    if (performance.now() < refusal.countAt) return false;
    refusal.countAt = performance.now() + COUNT_MS;
    const count = await this.#context.count(this.name).catch(() => undefined);
    const before = refusal.count;
    refusal.count = count ?? before;
    return count !== undefined && before !== undefined && count < before;
  }

  /** Begins to consume, if it does not yet. Throws the broker's error. */
  open(connection: ChannelModel, prepare?: (channel: Channel) => Promise<void>): Promise<void> {
    this.#retiring = false;
    if (this.#channel) return Promise.resolve();
    this.#opening ??= this.#open(connection, prepare).finally(() => {
      this.#opening = undefined;
    });
    return this.#opening;
  }

  async #open(connection: ChannelModel, prepare?: (channel: Channel) => Promise<void>): Promise<void> {
    const channel = await connection.createChannel();
    let reason: unknown;
    channel.on('error', (error) => {
      reason = error;
    });
    channel.on('close', () => {
      if (reason) this.#context.log.warn({ queue: this.name, reason: messageOf(reason) }, 'channel closed');
      if (this.#channel === channel) this.#lost();
    });
    await prepare?.(channel);
    // Each look counts a delivery of what is prefetched, and the broker limits these.
    if (this.#refusal && (await channel.checkQueue(this.name)).messageCount === 0) this.#refusal = undefined;
    this.#looking = this.#refusal !== undefined;
    await channel.prefetch(this.#looking ? 1 : this.#context.prefetch);
    this.#filledAt = performance.now();
    // Set before `consume`, which may deliver the first message before it returns.
    this.#channel = channel;
    try {
      await channel.consume(this.name, (message) => {
        if (this.#channel !== channel) return;
        if (message) this.#take(message);
        else this.#cancelled(channel);
      });
    } catch (error) {
      if (this.#channel === channel) this.#lost();
      throw error;
    }
    if (this.#channel === channel) this.#context.onConsumed(true);
  }

  /** Returns the next message to deliver. undefined: none, or the queue is being handed over. */
  next(): InFlight | undefined {
    if (this.#retiring) return undefined;
    for (;;) {
      const message = this.#due.shift() ?? this.#arrived.shift();
      if (!message) return undefined;
      if (message.orphaned) continue;
      message.dispatched = true;
      this.#dispatchedCount += 1;
      return message;
    }
  }

  ack(message: InFlight): void {
    if (!message.orphaned) {
      this.#channel?.ack(message.raw);
      this.#context.onSettled();
    }
    this.#done(message);
  }

  retry(message: InFlight, delayMs: number, counts: boolean): void {
    if (message.orphaned) {
      this.#done(message);
      return;
    }
    if (counts) message.attempts += 1;
    this.#undispatch(message);
    this.#delay(message, delayMs);
    this.#context.onDone(message);
  }

  deadLetter(message: InFlight, reason: string): void {
    if (message.orphaned) {
      this.#done(message);
      return;
    }
    this.#context.deadLetter(this.queue, message, reason).then(
      () => this.ack(message),
      (error) => {
        // It stays unacked, in its place.
        const fields = { queue: this.name, ...idsOfMessage(message.raw.content), reason: messageOf(error) };
        this.#context.log.warn(fields, 'message not dead-lettered yet');
        setTimeout(() => this.deadLetter(message, reason), DEAD_LETTER_RETRY_MS);
      },
    );
  }

  /**
   * Delivers no more, waits until delivered messages are settled, then closes the channel, which
   * requeues the rest. Cancelling the consumer instead would activate the next one while messages are
   * in flight here. Returns early when `open` is called.
   */
  async retire(deadlineMs: number): Promise<void> {
    this.#retiring = true;
    for (
      const until = performance.now() + deadlineMs;
      this.#dispatchedCount > 0 && this.#retiring && performance.now() < until;
    ) {
      let timer: NodeJS.Timeout | undefined;
      const timeout = new Promise<void>((done) => {
        timer = setTimeout(done, Math.min(MAX_WAIT_MS, until - performance.now()));
      });
      await Promise.race([this.#settled.promise, timeout]);
      clearTimeout(timer);
    }
    if (this.#retiring) await this.#close();
  }

  /**
   * Ends a consumer that the broker has cancelled: its queue was deleted, or a message was unacked for
   * longer than the consumer timeout of RabbitMQ 4, where 3.x closes the channel. The channel goes too,
   * at once: after a late ack the broker delivers to the cancelled consumer, which amqplib answers by
   * closing the connection. The next heartbeat of the members opens the queue again.
   */
  #cancelled(channel: Channel): void {
    const unacked = [...this.#inFlight.values()].filter(({ orphaned }) => !orphaned);
    const heldMs = Math.max(0, ...unacked.map(({ arrivedAtMs }) => performance.now() - arrivedAtMs));
    this.#context.log.warn(
      { queue: this.name, unacked: unacked.length, heldMs },
      'consumer cancelled by the broker: its queue was deleted, or the consumer timeout is over',
    );
    this.#lost();
    void channel.close().catch(() => {});
  }

  async #close(): Promise<void> {
    await this.#opening?.catch(() => {});
    const channel = this.#channel;
    if (!channel) return;
    this.#lost();
    await channel.close().catch(() => {});
  }

  #take(message: ConsumeMessage): void {
    const seq = ++this.#seq;
    const { type, correlationId, headers, timestamp } = message.properties;
    const id = Number(correlationId);
    // A marker without an id would fail all barriers of the queue. It is taken as any message, and is none.
    if (type === BARRIER_TYPE && Number.isSafeInteger(id)) {
      this.#barriers.push({ seq, id, message });
      this.#passBarriers();
      return;
    }
    const inFlight: InFlight = {
      seq,
      raw: message,
      publishedAtMs: Number(timestamp) * 1000 || Date.now(),
      arrivedAtMs: performance.now(),
      origin: undefined,
      attempts: 0,
      dispatched: false,
      orphaned: false,
    };
    this.#inFlight.set(seq, inFlight);
    const origin = this.#judging ? undefined : this.#context.origins.known(headers?.[ORIGIN]);
    if (origin) {
      inFlight.origin = origin;
      this.#accept(inFlight);
    } else {
      this.#unjudged.push(inFlight);
      if (!this.#judging) void this.#judge();
    }
  }

  /** Judges messages in their order. A message that is not this cluster's stays in its queue. */
  async #judge(): Promise<void> {
    this.#judging = true;
    for (let message = this.#unjudged.shift(); message; message = this.#unjudged.shift()) {
      const origin: string | undefined = message.raw.properties.headers?.[ORIGIN];
      for (let verdict: Verdict | undefined; !verdict && !message.orphaned; ) {
        verdict = this.#context.origins.known(origin);
        verdict ??= await this.#context.origins.judge(origin!, message.publishedAtMs).catch((error) => {
          this.#context.log.warn({ queue: this.name, reason: messageOf(error) }, 'origin not known yet');
          return sleep(JUDGE_RETRY_MS, undefined);
        });
        if (verdict && !message.orphaned) this.#apply(verdict, message, origin);
      }
    }
    this.#judging = false;
  }

  #apply(verdict: Verdict, message: InFlight, origin: string | undefined): void {
    if (verdict instanceof FeedctlError) {
      this.#refuse(verdict, origin!, message.publishedAtMs);
    } else if (verdict === 'drop') {
      const fields = { queue: this.name, origin, ...idsOfMessage(message.raw.content) };
      this.#context.log.warn(fields, 'message of a cluster that is gone dropped');
      this.#channel?.ack(message.raw);
      this.#inFlight.delete(message.seq);
      this.#passBarriers();
      this.#endLook();
    } else {
      message.origin = verdict;
      this.#accept(message);
    }
  }

  /** Gives the messages back to the broker, in their places. */
  #refuse(error: FeedctlError, origin: string, publishedAtMs: number): void {
    const looks = (this.#refusal?.looks ?? 0) + 1;
    const lookAt = performance.now() + nextLookMs(looks);
    if (this.#refusal?.error.message !== error.message)
      this.#context.log.error({ queue: this.name, code: error.code, reason: error.message }, 'queue refused');
    const { countAt = 0, count } = this.#refusal ?? {};
    this.#refusal = { error, origin, publishedAtMs, looks, lookAt, askAt: 0, countAt, count };
    const channel = this.#channel;
    this.#lost();
    void channel?.close().catch(() => {});
  }

  #accept(inFlight: InFlight): void {
    this.#refusal = undefined;
    const waitMs = remainingDelay(inFlight.raw.properties.headers ?? {});
    if (waitMs > 0) {
      this.#delay(inFlight, waitMs);
    } else {
      this.#arrived.push(inFlight);
      this.#context.onReady();
    }
  }

  #delay(message: InFlight, delayMs: number): void {
    message.timer = setTimeout(() => {
      if (message.orphaned) return;
      this.#due.push(message);
      this.#context.onReady();
    }, delayMs);
  }

  #undispatch(message: InFlight): void {
    message.dispatched = false;
    this.#dispatchedCount -= 1;
    this.#settled.resolve();
    this.#settled = Promise.withResolvers<void>();
  }

  #done(message: InFlight): void {
    if (this.#isFilled) this.#filledAt = performance.now();
    this.#inFlight.delete(message.seq);
    this.#undispatch(message);
    this.#context.onDone(message);
    this.#passBarriers();
    this.#endLook();
  }

  /** Ends a look when the message is settled. The next heartbeat opens the queue again. */
  #endLook(): void {
    if (this.#looking && this.#inFlight.size === 0) void this.#close();
  }

  /** Orphans the messages of a channel that is closed: they can no longer be settled. */
  #lost(): void {
    this.#channel = undefined;
    this.#context.onConsumed(false);
    for (const message of this.#inFlight.values()) {
      clearTimeout(message.timer);
      message.orphaned = true;
      if (!message.dispatched) this.#inFlight.delete(message.seq);
    }
    this.#arrived = [];
    this.#unjudged = [];
    this.#due.length = 0;
    this.#barriers = [];
  }

  /** Passes barriers: every message before the marker is settled, and the broker has recorded it. */
  #passBarriers(): void {
    const first = this.#inFlight.keys().next().value ?? Number.POSITIVE_INFINITY;
    const due = this.#barriers.filter((marker) => marker.seq < first);
    const channel = this.#channel;
    if (this.#passingBarriers || due.length === 0 || !channel) return;
    this.#passingBarriers = true;
    this.#fence(channel)
      .then(() =>
        this.#context.passBarriers(
          this.name,
          due.map((marker) => marker.id),
        ),
      )
      .then(() => {
        // The channel was lost: the broker delivers the markers again. Passing twice has no effect.
        if (this.#channel !== channel) return;
        if (this.#isFilled) this.#filledAt = performance.now();
        for (const marker of due) channel.ack(marker.message);
        this.#barriers = this.#barriers.filter((marker) => !due.includes(marker));
        this.#endLook();
      })
      .catch((error) => {
        this.#context.log.warn({ queue: this.name, reason: messageOf(error) }, 'barrier not passed yet');
        return new Promise((done) => setTimeout(done, BARRIER_RETRY_MS));
      })
      .finally(() => {
        this.#passingBarriers = false;
        this.#passBarriers();
      });
  }

  /**
   * Waits until the broker has recorded all acks. It does not confirm acks and may lose those it has
   * not written: their messages would be redelivered after the barrier. Adding and cancelling a
   * consumer is written behind the acks in the same log, and is confirmed. Publishing a message would
   * do as well, but an alarm of the broker blocks a connection that publishes, and its acks with it.
   */
  async #fence(channel: Channel): Promise<void> {
    const { consumerTag } = await channel.consume(this.name, () => {});
    await channel.cancel(consumerTag);
  }
}
