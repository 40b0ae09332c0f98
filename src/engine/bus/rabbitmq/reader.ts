import type { Channel, ChannelModel, ConsumeMessage } from 'amqplib';
import { messageOf } from '../../model/errors.ts';
import { idsOfMessage } from '../../model/messageIds.ts';
import type { Log } from '../../telemetry/log.ts';
import type { InFlight } from './inFlight.ts';

export interface ReaderContext {
  readonly log: Log;
  /** Messages of the broker's in this process, handed out or not. */
  readonly prefetch: number;
  /** Messages come from now on, or no longer. */
  onConsumed(consumed: boolean): void;
  /** There is something to hand out. */
  onReady(): void;
  /** The broker has been told that a message is done with. */
  onSettled(): void;
  /** A message has been settled for good. */
  onDone(message: InFlight): void;
  /** Puts a message aside; resolves when the broker has it. */
  deadLetter(queue: string, message: InFlight, reason: string): Promise<void>;
  /** Notes that this queue has come to these marks. */
  passBarriers(name: string, marks: number[]): Promise<void>;
}

/** The type of a marker's message; its correlation id is the mark's. */
export const BARRIER_TYPE = 'feedctl.mark';
/** When a message may be handed out at the earliest, in unix milliseconds. */
export const NOT_BEFORE = 'not-before';
/** Traces of what is in the message. */
export const TRACES = 'feedctl-traces';
const DEAD_LETTER_RETRY_MS = 1_000;

interface ArrivedBarrier {
  readonly seq: number;
  readonly id: number;
  readonly message: ConsumeMessage;
}

/**
 * One queue of the broker on a channel of its own, as long as this process is to consume it: over any number of
 * connections, since what was taken from an earlier one may still be worked on.
 */
export class Reader {
  readonly queue: string;
  readonly name: string;
  readonly #context: ReaderContext;
  #channel: Channel | undefined;
  /** In the order of arrival. Stale ones are here until whoever works on them is done. */
  readonly #inFlight = new Map<number, InFlight>();
  /** Not handed out: those whose delay is over come first. */
  readonly #again: InFlight[] = [];
  #arrived: InFlight[] = [];
  #barriers: ArrivedBarrier[] = [];
  #passingBarriers = false;
  #seq = 0;
  #dispatchedCount = 0;
  #retiring = false;
  #opening: Promise<void> | undefined;
  #settled = Promise.withResolvers<void>();

  constructor(queue: string, name: string, context: ReaderContext) {
    this.queue = queue;
    this.name = name;
    this.#context = context;
  }

  /** Handed out and not settled. */
  get out(): number {
    return this.#dispatchedCount;
  }

  /** Here, and not handed out. */
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

  get retiring(): boolean {
    return this.#retiring;
  }

  /** Begins to consume. Once at a time; nothing where it is open. Throws what the broker says. */
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
    await channel.prefetch(this.#context.prefetch);
    // Set before the first message can come: it is handed out from within `consume`.
    this.#channel = channel;
    try {
      await channel.consume(this.name, (message) => {
        if (this.#channel !== channel) return;
        if (message) this.#take(message);
        else void this.#close(); // The queue has been deleted.
      });
    } catch (error) {
      if (this.#channel === channel) this.#lost();
      throw error;
    }
    if (this.#channel === channel) this.#context.onConsumed(true);
  }

  /** The next message for a consumer; undefined where there is none, or where this process is to let the queue go. */
  next(): InFlight | undefined {
    if (this.#retiring) return undefined;
    for (;;) {
      const message = this.#again.shift() ?? this.#arrived.shift();
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
    this.#takeBack(message);
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
        // The broker does not take it now: it stays in hand, and in its place.
        const said = { queue: this.name, ...idsOfMessage(message.raw.content), reason: messageOf(error) };
        this.#context.log.warn(said, 'message not put aside yet');
        setTimeout(() => this.deadLetter(message, reason), DEAD_LETTER_RETRY_MS);
      },
    );
  }

  /**
   * Hands out no more, waits until what is out is settled, and gives the rest back by closing the channel: were the
   * consumer cancelled instead, the broker would go on with the next while messages are still in hand here.
   * Ends early when `open` is called meanwhile.
   */
  async retire(deadlineMs: number): Promise<void> {
    this.#retiring = true;
    for (
      const until = Date.now() + deadlineMs;
      this.#dispatchedCount > 0 && this.#retiring && Date.now() < until;
    ) {
      let timer: NodeJS.Timeout | undefined;
      const timeout = new Promise<void>((done) => {
        timer = setTimeout(done, Math.min(60_000, until - Date.now()));
      });
      await Promise.race([this.#settled.promise, timeout]);
      clearTimeout(timer);
    }
    if (this.#retiring) await this.#close();
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
    if (type === BARRIER_TYPE) {
      this.#barriers.push({ seq, id: Number(correlationId), message });
      this.#passBarriers();
      return;
    }
    const inFlight: InFlight = {
      seq,
      raw: message,
      publishedAtMs: Number(timestamp) * 1000 || Date.now(),
      attempts: 0,
      dispatched: false,
      orphaned: false,
    };
    this.#inFlight.set(seq, inFlight);
    const notBefore = Number(headers?.[NOT_BEFORE] ?? 0);
    if (notBefore > Date.now()) {
      this.#delay(inFlight, notBefore - Date.now());
    } else {
      this.#arrived.push(inFlight);
      this.#context.onReady();
    }
  }

  #delay(message: InFlight, delayMs: number): void {
    message.timer = setTimeout(() => {
      if (message.orphaned) return;
      this.#again.push(message);
      this.#context.onReady();
    }, delayMs);
  }

  #takeBack(message: InFlight): void {
    message.dispatched = false;
    this.#dispatchedCount -= 1;
    this.#settled.resolve();
    this.#settled = Promise.withResolvers<void>();
  }

  #done(message: InFlight): void {
    this.#inFlight.delete(message.seq);
    this.#takeBack(message);
    this.#context.onDone(message);
    this.#passBarriers();
  }

  /** The channel is gone, and with it every claim on what came over it. */
  #lost(): void {
    this.#channel = undefined;
    this.#context.onConsumed(false);
    for (const message of this.#inFlight.values()) {
      clearTimeout(message.timer);
      message.orphaned = true;
      if (!message.dispatched) this.#inFlight.delete(message.seq);
    }
    this.#arrived = [];
    this.#again.length = 0;
    this.#barriers = [];
  }

  /** A mark is passed when all that came before its marker is settled, and the broker knows it. */
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
        // Lost meanwhile: the broker will deliver the markers again, and passing twice changes nothing.
        if (this.#channel !== channel) return;
        for (const marker of due) channel.ack(marker.message);
        this.#barriers = this.#barriers.filter((marker) => !due.includes(marker));
      })
      .catch((error) => {
        this.#context.log.warn({ queue: this.name, reason: messageOf(error) }, 'a mark waits');
        return new Promise((done) => setTimeout(done, 500));
      })
      .finally(() => {
        this.#passingBarriers = false;
        this.#passBarriers();
      });
  }

  /**
   * Acks are not answered, and the broker may lose those it has not written yet: the messages would come again
   * after the mark. Joining and leaving the queue are written behind them in the same log and are answered. A
   * message would do so too, but a connection that publishes is blocked by an alarm, and its acks with it.
   */
  async #fence(channel: Channel): Promise<void> {
    const { consumerTag } = await channel.consume(this.name, () => {});
    await channel.cancel(consumerTag);
  }
}
