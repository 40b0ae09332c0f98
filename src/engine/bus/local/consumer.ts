import { copyOut } from '../../database/copy.ts';
import type { Database } from '../../database/database.ts';
import { readId } from '../../model/messages.ts';
import { poll } from '../../util/poll.ts';
import type { ConsumeOptions, Consumer, Delivery, QueueName } from '../bus.ts';
import { ACK, DEAD_LETTER, NEXT_DUE, RECOVER, RELEASE, RENEW, RETRY, takeStatement } from './sql.ts';

const LEASE_MS = 30_000;
/** Pause before an ack that the database refused is sent again. */
const SETTLE_RETRY_MS = 200;
/** Maximum time until a consumer looks for messages without being woken. */
const IDLE_POLL_MS = 5_000;
/**
 * Time after its last message until a consumer asks for messages that are due later. While messages come one
 * by one, asking after each of them would double the statements of the queue.
 */
const SETTLE_MS = 250;
const RECOVER_INTERVAL_MS = 5_000;
const STOP_POLL_MS = 5;
/** Unsettled deliveries after which a message is dead-lettered: it kills its consumers. */
const MAX_DELIVERIES = 100;

interface Row {
  id: number;
  queue: string;
  body: Buffer;
  attempts: number;
  deliveries: number;
  traces: string | undefined;
}

/** A message in flight, from its delivery until the database has recorded how it was settled. */
interface InFlight {
  readonly queue: string;
  readonly id: number;
  settled: boolean;
}

/** Reads a text of a row in COPY format. undefined: null. */
function textAt(bytes: Buffer, at: number): string | undefined {
  const length = bytes.readInt32BE(at);
  return length < 0 ? undefined : bytes.toString('latin1', at + 4, at + 4 + length);
}

interface ConsumerCallbacks {
  onDeliveries(deliveries: Delivery[]): void;
  /** Called with the number of messages that were acked or dead-lettered. */
  onSettled(queue: string, count: number): void;
  onStopped(): void;
}

/** Leases messages of some queues, delivers them, and acks them in batches. */
export class LocalConsumer implements Consumer {
  readonly #db: Database;
  readonly #id: number;
  readonly #queues: readonly QueueName[];
  readonly #prefetch: number;
  readonly #callbacks: ConsumerCallbacks;
  /** By queue and id. A message that is delivered again before its retry is recorded is here once. */
  readonly #inFlight = new Map<string, Map<number, InFlight>>();
  #inFlightCount = 0;
  /** Messages may wait for which there was no room. */
  #leftSome = false;
  #acks: InFlight[] = [];
  #settling: Promise<void> = Promise.resolve();
  #flushQueued = false;
  #stopped = false;
  #running: Promise<void> | undefined;
  /** By the monotonic clock. */
  #recoveredAt = Number.NEGATIVE_INFINITY;
  #heartbeat: NodeJS.Timeout | undefined;
  #wake = Promise.withResolvers<void>();

  constructor(db: Database, id: number, options: ConsumeOptions, callbacks: ConsumerCallbacks) {
    this.#db = db;
    this.#id = id;
    this.#queues = options.queues;
    this.#prefetch = options.prefetch;
    this.#callbacks = callbacks;
  }

  start(): void {
    this.#heartbeat = setInterval(() => {
      for (const [queue, messages] of this.#inFlight) {
        if (messages.size > 0)
          this.#db.query(RENEW, [queue, [...messages.keys()], this.#id, LEASE_MS]).catch(() => {});
      }
    }, LEASE_MS / 3);
    this.#running = this.#run();
  }

  wake(queue?: string): void {
    if (queue === undefined || this.#queues.includes(queue as QueueName)) this.#wake.resolve();
  }

  async stop(deadlineMs: number): Promise<void> {
    this.#stopped = true;
    this.wake();
    await this.#running;
    await poll(() => this.#inFlightCount === 0, { everyMs: STOP_POLL_MS, timeoutMs: deadlineMs });
    await this.#flush();
    clearInterval(this.#heartbeat);
    for (const [queue, messages] of this.#inFlight) {
      if (messages.size > 0)
        await this.#db.query(RELEASE, [queue, [...messages.keys()], this.#id]).catch(() => {});
    }
    this.#callbacks.onStopped();
  }

  async #run(): Promise<void> {
    let failures = 0;
    while (!this.#stopped) {
      // Replaced before the queues are read, so that no wake-up is lost.
      this.#wake = Promise.withResolvers<void>();
      try {
        const taken = await this.#takeAll();
        failures = 0;
        if (this.#stopped) break;
        if (this.#leftSome && this.#inFlightCount < this.#prefetch) continue;
        // A message that is published after the queues were read wakes the consumer.
        if (taken > 0) await this.#sleep(SETTLE_MS);
        else await this.#idle();
      } catch {
        failures += 1;
        const backoffMs = Math.min(10_000, 100 * 2 ** failures) * Math.random();
        await this.#sleep(50 + backoffMs);
      }
    }
  }

  /** Takes and delivers messages of each queue. Returns their number. */
  async #takeAll(): Promise<number> {
    if (performance.now() - this.#recoveredAt > RECOVER_INTERVAL_MS) {
      await this.#db.query(RECOVER, [this.#queues]);
      this.#recoveredAt = performance.now();
    }
    let taken = 0;
    this.#leftSome = false;
    for (const queue of this.#queues) {
      const room = this.#prefetch - this.#inFlightCount;
      if (room <= 0) {
        this.#leftSome = true;
        break;
      }
      // A message that another consumer has requeued while it is in flight here is not delivered twice.
      const inFlight = this.#inFlight.get(queue);
      const found = await this.#take(queue, room);
      this.#leftSome ||= found.length === room;
      const rows = found.filter((row) => inFlight?.get(row.id)?.settled !== false);
      if (rows.length === 0) continue;
      taken += rows.length;
      rows.sort((a, b) => a.id - b.id);
      const deliveries = rows.map((row) => this.#delivery(row));
      const fit = deliveries.filter((delivery, i) => {
        if (rows[i]!.deliveries <= MAX_DELIVERIES) return true;
        delivery.deadLetter(`delivered ${MAX_DELIVERIES} times and never settled`);
        return false;
      });
      if (fit.length > 0) this.#callbacks.onDeliveries(fit);
    }
    return taken;
  }

  async #take(queue: string, count: number): Promise<Row[]> {
    const statement = takeStatement({ queue, count, consumer: this.#id, leaseMs: LEASE_MS });
    const rows: Row[] = [];
    await this.#db.withSession((session) =>
      copyOut(session, statement, (bytes, at) => {
        // Field count, then length and value of bigint, bytea, smallint, integer and text (null: -1).
        const id = readId(bytes, at + 6);
        const bodyAt = at + 18;
        const bodyEnd = bodyAt + bytes.readUInt32BE(at + 14);
        rows.push({
          id,
          queue,
          body: bytes.subarray(bodyAt, bodyEnd),
          attempts: bytes.readInt16BE(bodyEnd + 4),
          deliveries: bytes.readInt32BE(bodyEnd + 10),
          traces: textAt(bytes, bodyEnd + 14),
        });
        return undefined;
      }),
    );
    return rows;
  }

  async #idle(): Promise<void> {
    let waitMs = IDLE_POLL_MS;
    if (this.#inFlightCount < this.#prefetch) {
      const { rows } = await this.#db.query<{ due_ms: string | null }>(NEXT_DUE, [this.#queues]);
      const due = rows[0]?.due_ms;
      if (due != null) waitMs = Math.min(IDLE_POLL_MS, Math.max(5, Number(due)));
    }
    await this.#sleep(waitMs);
  }

  async #sleep(ms: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<void>((done) => {
      timer = setTimeout(done, ms);
    });
    await Promise.race([timeout, this.#wake.promise]);
    clearTimeout(timer);
  }

  #delivery(row: Row): Delivery {
    const message: InFlight = { queue: row.queue, id: row.id, settled: false };
    const inFlight = this.#inFlight.get(row.queue) ?? new Map<number, InFlight>();
    this.#inFlight.set(row.queue, inFlight.set(row.id, message));
    this.#inFlightCount += 1;
    const settleOnce = (how: () => void) => {
      if (message.settled) throw new Error(`message ${row.queue}/${row.id} was settled already`);
      message.settled = true;
      how();
    };
    const settleAlone = (statement: string, values: unknown[]) => {
      const done = this.#settle(statement, values);
      this.#settling = Promise.all([this.#settling, done]).then(() => {
        this.#release([message]);
        // The message may be due again before any other.
        this.#wake.resolve();
      });
    };
    return {
      queue: row.queue,
      body: row.body,
      traces: row.traces,
      attempts: row.attempts,
      ack: () =>
        settleOnce(() => {
          this.#acks.push(message);
          void this.#flush();
        }),
      retry: (delayMs, { counts = true } = {}) =>
        settleOnce(() =>
          settleAlone(RETRY, [row.queue, row.id, this.#id, Math.round(delayMs), counts ? 1 : 0]),
        ),
      deadLetter: (reason) =>
        settleOnce(() => {
          settleAlone(DEAD_LETTER, [row.queue, row.id, this.#id, reason.slice(0, 2000)]);
          this.#callbacks.onSettled(row.queue, 1);
        }),
    };
  }

  /**
   * Records how messages were settled. Retries while the database is down: otherwise the messages would
   * wait for the end of the lease, and barriers behind them too. Gives up when the lease has ended: the
   * messages are delivered again.
   */
  async #settle(statement: string, values: unknown[]): Promise<void> {
    const recorded = () =>
      this.#db.query(statement, values).then(
        () => true,
        () => this.#stopped,
      );
    await poll(recorded, { everyMs: SETTLE_RETRY_MS, timeoutMs: LEASE_MS });
  }

  #release(messages: readonly InFlight[]): void {
    for (const message of messages) {
      this.#inFlightCount -= 1;
      const inFlight = this.#inFlight.get(message.queue);
      if (inFlight?.get(message.id) === message) inFlight.delete(message.id);
    }
    if (this.#leftSome) this.#wake.resolve();
  }

  /** Sends the acks of a queue in one statement. Acks that arrive during a flush wait for the next. */
  #flush(): Promise<void> {
    if (this.#flushQueued) return this.#settling;
    this.#flushQueued = true;
    this.#settling = this.#settling.then(async () => {
      this.#flushQueued = false;
      const acks = this.#acks;
      this.#acks = [];
      for (const [queue, messages] of Map.groupBy(acks, (message) => message.queue)) {
        const ids = messages.map((message) => message.id);
        await this.#settle(ACK, [queue, ids, this.#id]);
        this.#callbacks.onSettled(queue, ids.length);
        this.#release(messages);
      }
    });
    return this.#settling;
  }
}
