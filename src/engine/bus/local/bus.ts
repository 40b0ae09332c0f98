import { setTimeout as sleep } from 'node:timers/promises';
import { copyOut } from '../../database/copy.ts';
import { Database, type Listener, type Queryable, type SessionLimits } from '../../database/database.ts';
import { FeedctlError } from '../../model/errors.ts';
import { readId } from '../../model/messages.ts';
import type {
  Barrier,
  BarrierQueue,
  Bus,
  ConsumeOptions,
  Consumer,
  Delivery,
  Outgoing,
  QueueDepth,
  QueueName,
  WaitingMessage,
} from '../bus.ts';
import { readThroughput, ThroughputReporter } from '../throughput.ts';
import {
  ACK,
  ANY_BEFORE,
  CONSUMER_LOCK,
  DEAD_LETTER,
  DEPTHS,
  DROP,
  HOLDS,
  MAX_ID,
  NEXT_DUE,
  PEEK,
  putStatement,
  RECOVER,
  RELEASE,
  RENEW,
  RETRY,
  takeStatement,
  WAKE_CHANNEL,
} from './sql.ts';

const LEASE_MS = 30_000;
/** What the database could not be told is told again. */
const NOTIFY_RETRY_MS = 200;
/** Workers share every queue: partitions only keep the rows of one COPY near each other. */
const PARTITIONS = 2;
const IDLE_POLL_MS = 5_000;
const RECOVER_INTERVAL_MS = 5_000;
/** Rows of one INSERT: three parameters each, and the protocol takes 65,535. */
const PUT_ROWS = 1_000;
/** A message that was handed out this often and never answered has taken its consumers down with it. */
const MAX_DELIVERIES = 100;
const DEPTH_AGE_MS = 1_000;

export interface LocalBusOptions {
  /** A queue refuses more than this many messages, or bytes. */
  readonly maxMessages?: number;
  readonly maxBytes?: number;
  readonly sessions?: SessionLimits | undefined;
}

interface Row {
  id: number;
  queue: string;
  body: Buffer;
  attempts: number;
  deliveries: number;
  traces: string | undefined;
}

/** One delivery in a consumer's hands, from its taking until what settled it is done. */
interface Hand {
  readonly queue: string;
  readonly id: number;
  settled: boolean;
}

/**
 * A queue in PostgreSQL. What is published is synced to disk. Leases and acks are not: lost in a crash of the
 * server, they only mean that a message is delivered again.
 */
export async function openLocalBus(url: string, options: LocalBusOptions = {}): Promise<Bus> {
  const db = new Database(url, { maxSessions: 6, applicationName: 'feedctl bus', ...options.sessions });
  const relaxed = new Database(url, {
    maxSessions: 4,
    applicationName: 'feedctl bus',
    sessionSettings: { synchronous_commit: 'off' },
    ...options.sessions,
  });
  const maxMessages = options.maxMessages ?? 100_000;
  const maxBytes = options.maxBytes ?? 1024 ** 3;
  const consumers = new Set<LocalConsumer>();
  const counts = new ThroughputReporter(relaxed);
  let identity: Promise<{ id: number; listener: Listener }> | undefined;
  let depths: { at: number; full: Set<string> } = { at: 0, full: new Set() };

  /** A consumer's session: it is woken here, and it lives as long as this session holds its lock. */
  const identify = async () => {
    const { rows } = await relaxed.query<{ id: number }>(`select nextval('bus.consumer_id')::integer as id`);
    const id = rows[0]!.id;
    const listener = await db.listen([WAKE_CHANNEL], {
      onNotify: (_, queue) => {
        for (const consumer of consumers) consumer.wake(queue);
      },
      onListening: async (session) => {
        await session.query('select pg_advisory_lock($1, $2)', [CONSUMER_LOCK, id]);
        for (const consumer of consumers) consumer.wake();
      },
    });
    return { id, listener };
  };

  const readDepths = async (): Promise<(QueueDepth & { bytes: number })[]> => {
    const { rows } = await relaxed.query<Record<string, number> & { queue: string }>(DEPTHS);
    return rows.map((row) => ({
      queue: row.queue,
      ready: row.ready!,
      unacked: row.unacked!,
      oldestAgeMs: Math.round(Number(row.age_ms)),
      deadLetters: row.dead!,
      bytes: row.bytes!,
    }));
  };

  const checkRoom = async (queues: Iterable<string>): Promise<void> => {
    if (Date.now() - depths.at > DEPTH_AGE_MS) {
      depths = { at: Date.now(), full: depths.full };
      const over = (await readDepths()).filter(
        (d) => d.ready + d.unacked >= maxMessages || d.bytes >= maxBytes,
      );
      depths.full = new Set(over.map((d) => d.queue));
    }
    for (const queue of queues) {
      if (depths.full.has(queue)) throw new FeedctlError('QUEUE_FULL', `the queue ${queue} is at its bound`);
    }
  };

  const hasPassed = async (barrier: Barrier): Promise<boolean> => {
    const { rows } = await relaxed.query<{ found: boolean }>(ANY_BEFORE, [barrier.queues, barrier.position]);
    return !rows[0]!.found;
  };

  return {
    kind: 'local',
    async publish(messages: readonly Outgoing[]) {
      if (messages.length === 0) return;
      await checkRoom(new Set(messages.map((message) => message.queue)));
      if (messages.length <= PUT_ROWS) await put(db, messages);
      else await db.transaction((session) => put(session, messages));
    },
    async publishIn(session, messages) {
      await checkRoom(new Set(messages.map((message) => message.queue)));
      await put(session, messages);
    },
    async consume(consumeOptions, onDeliveries) {
      identity ??= identify().catch((error) => {
        identity = undefined;
        throw error;
      });
      const { id } = await identity;
      const consumer = new LocalConsumer(relaxed, id, consumeOptions, {
        onDeliveries,
        onSettled: (queue, count) => counts.add(queue, count),
        onStopped: () => void consumers.delete(consumer),
      });
      consumers.add(consumer);
      consumer.start();
      // From then on it is: what is in the database is lost with the database.
      consumeOptions.onConsumed?.(true);
      return consumer;
    },
    partitions: () => Promise.resolve(PARTITIONS),
    async placeBarrier(queues: readonly BarrierQueue[]) {
      const { rows } = await relaxed.query<{ position: number }>(MAX_ID, [queues]);
      return { queues, position: rows[0]!.position };
    },
    hasPassed,
    async holds(queues) {
      return (await relaxed.query<{ found: boolean }>(HOLDS, [queues])).rows[0]!.found;
    },
    depths: async () => (await readDepths()).map(({ bytes: _, ...depth }) => depth),
    throughput: () => readThroughput(relaxed),
    async peek(queue, limit) {
      return (await relaxed.query<WaitingMessage>(PEEK, [queue, limit])).rows;
    },
    async dropQueue(queue) {
      await db.query(DROP, [queue]);
    },
    async close() {
      await Promise.all([...consumers].map((consumer) => consumer.stop(0)));
      await counts.close();
      const known = await identity?.catch(() => undefined);
      await known?.listener.close();
      await Promise.all([db.close(), relaxed.close()]);
    },
  };
}

async function put(session: Queryable, messages: readonly Outgoing[]): Promise<void> {
  for (let from = 0; from < messages.length; from += PUT_ROWS) {
    const part = messages.slice(from, from + PUT_ROWS);
    const traced = part.some((message) => message.traces !== undefined);
    const values = part.flatMap(({ queue, body, delayMs = 0, traces = null }) =>
      traced ? [queue, body, delayMs, traces] : [queue, body, delayMs],
    );
    await session.query(putStatement(part.length, traced), values);
  }
}

/** A field of a row as COPY sends it. */
function textAt(bytes: Buffer, at: number): string | undefined {
  const length = bytes.readInt32BE(at);
  return length < 0 ? undefined : bytes.toString('latin1', at + 4, at + 4 + length);
}

interface ConsumerCallbacks {
  onDeliveries(deliveries: Delivery[]): void;
  onSettled(queue: string, count: number): void;
  onStopped(): void;
}

/** Takes messages of some queues, hands them out, and settles them in batches. */
class LocalConsumer implements Consumer {
  readonly #db: Database;
  readonly #id: number;
  readonly #queues: readonly QueueName[];
  readonly #prefetch: number;
  readonly #told: ConsumerCallbacks;
  /** What is in hand, by queue and id. A message that came again before its retry was released is here once. */
  readonly #held = new Map<string, Map<number, Hand>>();
  #heldCount = 0;
  #acks: Hand[] = [];
  #settling: Promise<void> = Promise.resolve();
  #flushQueued = false;
  #stopped = false;
  #running: Promise<void> | undefined;
  #recoveredAt = 0;
  #heartbeat: NodeJS.Timeout | undefined;
  #wake = Promise.withResolvers<void>();

  constructor(db: Database, id: number, options: ConsumeOptions, told: ConsumerCallbacks) {
    this.#db = db;
    this.#id = id;
    this.#queues = options.queues;
    this.#prefetch = options.prefetch;
    this.#told = told;
  }

  start(): void {
    this.#heartbeat = setInterval(() => {
      for (const [queue, hands] of this.#held) {
        if (hands.size > 0)
          this.#db.query(RENEW, [queue, [...hands.keys()], this.#id, LEASE_MS]).catch(() => {});
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
    for (const until = Date.now() + deadlineMs; this.#heldCount > 0 && Date.now() < until; ) await sleep(5);
    await this.#flush();
    clearInterval(this.#heartbeat);
    for (const [queue, hands] of this.#held) {
      if (hands.size > 0) await this.#db.query(RELEASE, [queue, [...hands.keys()], this.#id]).catch(() => {});
    }
    this.#told.onStopped();
  }

  async #run(): Promise<void> {
    let failures = 0;
    while (!this.#stopped) {
      // Replaced before looking: a wake-up while the queues are read is not lost.
      this.#wake = Promise.withResolvers<void>();
      try {
        const taken = await this.#takeAll();
        failures = 0;
        if (taken === 0 && !this.#stopped) await this.#idle();
      } catch {
        failures += 1;
        const backoffMs = Math.min(10_000, 100 * 2 ** failures) * Math.random();
        await this.#sleep(50 + backoffMs);
      }
    }
  }

  async #takeAll(): Promise<number> {
    if (Date.now() - this.#recoveredAt > RECOVER_INTERVAL_MS) {
      await this.#db.query(RECOVER, [this.#queues]);
      this.#recoveredAt = Date.now();
    }
    let taken = 0;
    for (const queue of this.#queues) {
      const room = this.#prefetch - this.#heldCount;
      if (room <= 0) break;
      // One that others gave back while it is worked on here is leased again, and not handed out a second time.
      const hands = this.#held.get(queue);
      const rows = (await this.#take(queue, room)).filter((row) => hands?.get(row.id)?.settled !== false);
      if (rows.length === 0) continue;
      taken += rows.length;
      rows.sort((a, b) => a.id - b.id);
      const deliveries = rows.map((row) => this.#delivery(row));
      const fit = deliveries.filter((delivery, i) => {
        if (rows[i]!.deliveries <= MAX_DELIVERIES) return true;
        delivery.deadLetter(`handed out ${MAX_DELIVERIES} times and never answered`);
        return false;
      });
      if (fit.length > 0) this.#told.onDeliveries(fit);
    }
    return taken;
  }

  async #take(queue: string, count: number): Promise<Row[]> {
    const statement = takeStatement({ queue, count, consumer: this.#id, leaseMs: LEASE_MS });
    const rows: Row[] = [];
    await this.#db.withSession((session) =>
      copyOut(session, statement, (bytes, at) => {
        // Field count, then each field behind its length: bigint, bytea, smallint, integer, and text or null (-1).
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
    if (this.#heldCount < this.#prefetch) {
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
    const hand: Hand = { queue: row.queue, id: row.id, settled: false };
    const held = this.#held.get(row.queue) ?? new Map<number, Hand>();
    this.#held.set(row.queue, held.set(row.id, hand));
    this.#heldCount += 1;
    const settleOnce = (how: () => void) => {
      if (hand.settled) throw new Error(`message ${row.queue}/${row.id} was settled already`);
      hand.settled = true;
      how();
    };
    const apart = (statement: string, values: unknown[]) => {
      const done = this.#tell(statement, values);
      this.#settling = Promise.all([this.#settling, done]).then(() => this.#release([hand]));
    };
    return {
      queue: row.queue,
      body: row.body,
      traces: row.traces,
      attempts: row.attempts,
      ack: () =>
        settleOnce(() => {
          this.#acks.push(hand);
          void this.#flush();
        }),
      retry: (delayMs, { counts = true } = {}) =>
        settleOnce(() => apart(RETRY, [row.queue, row.id, this.#id, Math.round(delayMs), counts ? 1 : 0])),
      deadLetter: (reason) =>
        settleOnce(() => {
          apart(DEAD_LETTER, [row.queue, row.id, this.#id, reason.slice(0, 2000)]);
          this.#told.onSettled(row.queue, 1);
        }),
    };
  }

  /**
   * An answer that fell into a moment without the database is given once more: else its message would wait for the end
   * of the lease, and whoever waits for all that came before it too. After that it is delivered again anyway.
   */
  async #tell(statement: string, values: unknown[]): Promise<void> {
    for (const until = Date.now() + LEASE_MS; ; await sleep(NOTIFY_RETRY_MS)) {
      try {
        await this.#db.query(statement, values);
        return;
      } catch {
        if (this.#stopped || Date.now() > until) return;
      }
    }
  }

  #release(hands: readonly Hand[]): void {
    for (const hand of hands) {
      this.#heldCount -= 1;
      const held = this.#held.get(hand.queue);
      if (held?.get(hand.id) === hand) held.delete(hand.id);
    }
    this.#wake.resolve();
  }

  /** Acks gather while a flush is on its way: one statement for many. */
  #flush(): Promise<void> {
    if (this.#flushQueued) return this.#settling;
    this.#flushQueued = true;
    this.#settling = this.#settling.then(async () => {
      this.#flushQueued = false;
      const acks = this.#acks;
      this.#acks = [];
      for (const [queue, hands] of Map.groupBy(acks, (hand) => hand.queue)) {
        const ids = hands.map((hand) => hand.id);
        await this.#tell(ACK, [queue, ids, this.#id]);
        this.#told.onSettled(queue, ids.length);
        this.#release(hands);
      }
    });
    return this.#settling;
  }
}
