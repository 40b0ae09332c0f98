import type { Channel, ChannelModel, ConsumeMessage } from 'amqplib';
import { messageOf } from '../../model/errors.ts';
import { idsOfMessage } from '../../model/messageIds.ts';
import type { Log } from '../../telemetry/log.ts';
import type { Hand } from './inFlight.ts';

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
  onDone(hand: Hand): void;
  /** Puts a message aside; resolves when the broker has it. */
  deadLetter(queue: string, hand: Hand, reason: string): Promise<void>;
  /** Notes that this queue has come to these marks. */
  passMarks(name: string, marks: number[]): Promise<void>;
}

/** The type of a marker's message; its correlation id is the mark's. */
export const MARKER = 'feedctl.mark';
/** When a message may be handed out at the earliest, in unix milliseconds. */
export const NOT_BEFORE = 'not-before';
/** Traces of what is in the message. */
export const TRACES = 'feedctl-traces';
const DEAD_LETTER_AGAIN_MS = 1_000;

interface Marker {
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
  readonly #hands = new Map<number, Hand>();
  /** Not handed out: those whose delay is over come first. */
  readonly #again: Hand[] = [];
  #arrived: Hand[] = [];
  #markers: Marker[] = [];
  #passing = false;
  #seq = 0;
  #out = 0;
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
    return this.#out;
  }

  /** Here, and not handed out. */
  get waiting(): number {
    let count = 0;
    for (const hand of this.#hands.values()) if (!hand.out && !hand.stale) count += 1;
    return count;
  }

  get oldestMs(): number | undefined {
    const first = this.#hands.values().next().value;
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
  next(): Hand | undefined {
    if (this.#retiring) return undefined;
    for (;;) {
      const hand = this.#again.shift() ?? this.#arrived.shift();
      if (!hand) return undefined;
      if (hand.stale) continue;
      hand.out = true;
      this.#out += 1;
      return hand;
    }
  }

  ack(hand: Hand): void {
    if (!hand.stale) {
      this.#channel?.ack(hand.message);
      this.#context.onSettled();
    }
    this.#done(hand);
  }

  retry(hand: Hand, delayMs: number, counts: boolean): void {
    if (hand.stale) {
      this.#done(hand);
      return;
    }
    if (counts) hand.attempts += 1;
    this.#takeBack(hand);
    this.#delay(hand, delayMs);
    this.#context.onDone(hand);
  }

  deadLetter(hand: Hand, reason: string): void {
    if (hand.stale) {
      this.#done(hand);
      return;
    }
    this.#context.deadLetter(this.queue, hand, reason).then(
      () => this.ack(hand),
      (error) => {
        // The broker does not take it now: it stays in hand, and in its place.
        const said = { queue: this.name, ...idsOfMessage(hand.message.content), reason: messageOf(error) };
        this.#context.log.warn(said, 'message not put aside yet');
        setTimeout(() => this.deadLetter(hand, reason), DEAD_LETTER_AGAIN_MS);
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
    for (const until = Date.now() + deadlineMs; this.#out > 0 && this.#retiring && Date.now() < until; ) {
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
    if (type === MARKER) {
      this.#markers.push({ seq, id: Number(correlationId), message });
      this.#passMarkers();
      return;
    }
    const hand: Hand = {
      seq,
      message,
      publishedAtMs: Number(timestamp) * 1000 || Date.now(),
      attempts: 0,
      out: false,
      stale: false,
    };
    this.#hands.set(seq, hand);
    const notBefore = Number(headers?.[NOT_BEFORE] ?? 0);
    if (notBefore > Date.now()) {
      this.#delay(hand, notBefore - Date.now());
    } else {
      this.#arrived.push(hand);
      this.#context.onReady();
    }
  }

  #delay(hand: Hand, delayMs: number): void {
    hand.timer = setTimeout(() => {
      if (hand.stale) return;
      this.#again.push(hand);
      this.#context.onReady();
    }, delayMs);
  }

  #takeBack(hand: Hand): void {
    hand.out = false;
    this.#out -= 1;
    this.#settled.resolve();
    this.#settled = Promise.withResolvers<void>();
  }

  #done(hand: Hand): void {
    this.#hands.delete(hand.seq);
    this.#takeBack(hand);
    this.#context.onDone(hand);
    this.#passMarkers();
  }

  /** The channel is gone, and with it every claim on what came over it. */
  #lost(): void {
    this.#channel = undefined;
    this.#context.onConsumed(false);
    for (const hand of this.#hands.values()) {
      clearTimeout(hand.timer);
      hand.stale = true;
      if (!hand.out) this.#hands.delete(hand.seq);
    }
    this.#arrived = [];
    this.#again.length = 0;
    this.#markers = [];
  }

  /** A mark is passed when all that came before its marker is settled, and the broker knows it. */
  #passMarkers(): void {
    const first = this.#hands.keys().next().value ?? Number.POSITIVE_INFINITY;
    const due = this.#markers.filter((marker) => marker.seq < first);
    const channel = this.#channel;
    if (this.#passing || due.length === 0 || !channel) return;
    this.#passing = true;
    this.#fence(channel)
      .then(() =>
        this.#context.passMarks(
          this.name,
          due.map((marker) => marker.id),
        ),
      )
      .then(() => {
        // Lost meanwhile: the broker will deliver the markers again, and passing twice changes nothing.
        if (this.#channel !== channel) return;
        for (const marker of due) channel.ack(marker.message);
        this.#markers = this.#markers.filter((marker) => !due.includes(marker));
      })
      .catch((error) => {
        this.#context.log.warn({ queue: this.name, reason: messageOf(error) }, 'a mark waits');
        return new Promise((done) => setTimeout(done, 500));
      })
      .finally(() => {
        this.#passing = false;
        this.#passMarkers();
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
