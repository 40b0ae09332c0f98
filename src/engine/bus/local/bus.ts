import { Database, type Listener, type Queryable, type SessionLimits } from '../../database/database.ts';
import type { Identity as ClusterIdentity } from '../../identity/identity.ts';
import { FeedctlError } from '../../model/errors.ts';
import type { ServerUrl } from '../../util/serverUrl.ts';
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
  QueueRecords,
  Throughput,
  WaitingMessage,
} from '../bus.ts';
import { readThroughput, ThroughputReporter } from '../throughput.ts';
import { LocalConsumer } from './consumer.ts';
import {
  ANY_BEFORE,
  CONSUMER_LOCK,
  DEPTHS,
  DROP,
  HOLDS,
  MAX_ID,
  PEEK,
  putStatement,
  RECORDS,
  WAKE_CHANNEL,
} from './sql.ts';

/** Workers share every queue. Partitions only keep the rows of one COPY near each other. */
const PARTITIONS = 2;
/** Rows of one INSERT: four parameters each at most, and the protocol has 65,535. */
const ROWS_PER_INSERT = 1_000;
/** Maximum age of the depths that the limits are checked against. */
const DEPTHS_AGE_MS = 1_000;

export interface LocalBusOptions {
  /** Limits of one queue. */
  readonly maxMessages?: number;
  readonly maxBytes?: number;
  readonly sessions?: SessionLimits | undefined;
  /** Confirms each new session: another cluster's database has queues of the same names. */
  readonly identity?: ClusterIdentity | undefined;
}

/** Number of a process's consumers, and the session whose advisory lock proves that they are alive. */
interface Identity {
  readonly id: number;
  readonly listener: Listener;
}

/**
 * The bus in PostgreSQL. Published messages are synced to disk. Leases and acks are not: if the server
 * loses them in a crash, their messages are delivered again.
 */
export class LocalBus implements Bus {
  readonly kind = 'local';
  readonly #durable: Database;
  /** Sessions without synchronous commit. */
  readonly #relaxed: Database;
  readonly #maxMessages: number;
  readonly #maxBytes: number;
  readonly #consumers = new Set<LocalConsumer>();
  readonly #throughput: ThroughputReporter;
  #identity: Promise<Identity> | undefined;
  #full: ReadonlySet<string> = new Set();
  /** By the monotonic clock. */
  #fullReadAt = Number.NEGATIVE_INFINITY;

  constructor(url: string | ServerUrl, options: LocalBusOptions = {}) {
    const { maxMessages = 100_000, maxBytes = 1024 ** 3, sessions, identity } = options;
    this.#maxMessages = maxMessages;
    this.#maxBytes = maxBytes;
    this.#durable = new Database(url, { maxSessions: 6, applicationName: 'feedctl bus', ...sessions });
    this.#relaxed = new Database(url, {
      maxSessions: 4,
      applicationName: 'feedctl bus',
      sessionSettings: { synchronous_commit: 'off' },
      ...sessions,
    });
    for (const db of [this.#durable, this.#relaxed]) identity?.guard(db);
    this.#throughput = new ThroughputReporter(this.#relaxed);
  }

  async publish(messages: readonly Outgoing[]): Promise<void> {
    if (messages.length === 0) return;
    await this.#checkRoom(messages);
    if (messages.length <= ROWS_PER_INSERT) await insert(this.#durable, messages);
    else await this.#durable.transaction((session) => insert(session, messages));
  }

  async publishIn(session: Queryable, messages: readonly Outgoing[]): Promise<void> {
    await this.#checkRoom(messages);
    await insert(session, messages);
  }

  async consume(options: ConsumeOptions, onDeliveries: (deliveries: Delivery[]) => void): Promise<Consumer> {
    this.#identity ??= this.#identify().catch((error) => {
      this.#identity = undefined;
      throw error;
    });
    const { id } = await this.#identity;
    const consumer = new LocalConsumer(this.#relaxed, id, options, {
      onDeliveries,
      onSettled: (queue, count) => this.#throughput.add(queue, count),
      onStopped: () => void this.#consumers.delete(consumer),
    });
    this.#consumers.add(consumer);
    consumer.start();
    // Called once: the queue is a table, and no message of it is lost.
    options.onConsumed?.(true);
    return consumer;
  }

  partitions(): Promise<number> {
    return Promise.resolve(PARTITIONS);
  }

  async placeBarrier(queues: readonly BarrierQueue[]): Promise<Barrier> {
    const { rows } = await this.#relaxed.query<{ position: number }>(MAX_ID, [queues]);
    return { queues, position: rows[0]!.position };
  }

  async hasPassed({ queues, position }: Barrier): Promise<boolean> {
    const { rows } = await this.#relaxed.query<{ found: boolean }>(ANY_BEFORE, [queues, position]);
    return !rows[0]!.found;
  }

  async holds(queues: readonly BarrierQueue[]): Promise<boolean> {
    return (await this.#relaxed.query<{ found: boolean }>(HOLDS, [queues])).rows[0]!.found;
  }

  async depths(): Promise<QueueDepth[]> {
    return (await this.#readDepths()).map(({ bytes: _, ...depth }) => depth);
  }

  async records(): Promise<QueueRecords[]> {
    type Row = { queue: string; messages: number; read: number; records: number };
    const { rows } = await this.#relaxed.query<Row>(RECORDS);
    return rows.map(({ queue, messages, read, records }) => ({
      queue,
      records: read === 0 ? 0 : Math.round((records * messages) / read),
    }));
  }

  throughput(): Promise<Throughput[]> {
    return readThroughput(this.#relaxed);
  }

  async peek(queue: QueueName, limit: number): Promise<WaitingMessage[]> {
    return (await this.#relaxed.query<WaitingMessage>(PEEK, [queue, limit])).rows;
  }

  async dropQueue(queue: QueueName): Promise<void> {
    await this.#durable.query(DROP, [queue]);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#consumers].map((consumer) => consumer.stop(0)));
    await this.#throughput.close();
    const identity = await this.#identity?.catch(() => undefined);
    await identity?.listener.close();
    await Promise.all([this.#durable.close(), this.#relaxed.close()]);
  }

  /** Gets a number for the consumers, locks it for as long as the session lives, and listens for wake-ups. */
  async #identify(): Promise<Identity> {
    const { rows } = await this.#relaxed.query<{ id: number }>(
      `select nextval('bus.consumer_id')::integer as id`,
    );
    const id = rows[0]!.id;
    const listener = await this.#durable.listen([WAKE_CHANNEL], {
      onNotify: (_, queue) => {
        for (const consumer of this.#consumers) consumer.wake(queue);
      },
      onListening: async (session) => {
        await session.query('select pg_advisory_lock($1, $2)', [CONSUMER_LOCK, id]);
        for (const consumer of this.#consumers) consumer.wake();
      },
    });
    return { id, listener };
  }

  async #readDepths(): Promise<(QueueDepth & { bytes: number })[]> {
    const { rows } = await this.#relaxed.query<Record<string, number> & { queue: string }>(DEPTHS);
    return rows.map((row) => ({
      queue: row.queue,
      ready: row.ready!,
      unacked: row.unacked!,
      oldestAgeMs: Math.round(Number(row.age_ms)),
      deadLetters: row.dead!,
      bytes: row.bytes!,
    }));
  }

  /** Throws QUEUE_FULL. */
  async #checkRoom(messages: readonly Outgoing[]): Promise<void> {
    if (performance.now() - this.#fullReadAt > DEPTHS_AGE_MS) {
      // Set first: concurrent publishers do not read the depths too.
      this.#fullReadAt = performance.now();
      const full = (await this.#readDepths()).filter(
        ({ ready, unacked, bytes }) => ready + unacked >= this.#maxMessages || bytes >= this.#maxBytes,
      );
      this.#full = new Set(full.map(({ queue }) => queue));
    }
    for (const { queue } of messages)
      if (this.#full.has(queue)) throw new FeedctlError('QUEUE_FULL', `the queue ${queue} is at its limit`);
  }
}

async function insert(session: Queryable, messages: readonly Outgoing[]): Promise<void> {
  for (let from = 0; from < messages.length; from += ROWS_PER_INSERT) {
    const part = messages.slice(from, from + ROWS_PER_INSERT);
    const traced = part.some((message) => message.traces !== undefined);
    const values = part.flatMap(({ queue, body, delayMs = 0, traces = null }) =>
      traced ? [queue, body, delayMs, traces] : [queue, body, delayMs],
    );
    await session.query(putStatement(part.length, traced), values);
  }
}
