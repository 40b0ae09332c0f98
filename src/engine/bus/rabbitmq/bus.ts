import type { Channel } from 'amqplib';
import { Database, type SessionLimits } from '../../database/database.ts';
import { withoutPassword } from '../../database/url.ts';
import type { Check } from '../../model/check.ts';
import { FeedctlError, isFeedctlError, messageOf } from '../../model/errors.ts';
import { countDeadLetters, keepDeadLetters } from '../../store/deadLetters.ts';
import { type Log, silentLog } from '../../telemetry/log.ts';
import { ServerUrl } from '../../util/serverUrl.ts';
import {
  type BarrierQueue,
  type Bus,
  type BusHealth,
  type ConsumeOptions,
  type Delivery,
  DURABLE_QUEUES,
  type Outgoing,
  type QueueDepth,
  type Throughput,
  type WaitingMessage,
} from '../bus.ts';
import { readThroughput } from '../throughput.ts';
import { AdminChannel } from './adminChannel.ts';
import { Barriers } from './barriers.ts';
import { checkBroker } from './checks.ts';
import { Connection } from './connection.ts';
import { RabbitConsumer } from './consumer.ts';
import { collectDeadLetters } from './deadLetters.ts';
import { parseEndpoints } from './endpoints.ts';
import type { InFlight } from './inFlight.ts';
import { ConsumerGroup, type MessageCounts, type Topology } from './membership.ts';
import { changePartitions, declare, endDrained, type PartitionsContext, readTopology } from './partitions.ts';
import { peekQueues } from './peek.ts';
import { Publisher, type Routed } from './publisher.ts';
import {
  DEAD_LETTERS,
  deadQueueOf,
  declareLiveQueue,
  EXCHANGES,
  isDurable,
  partitionsOf,
  type QueueLimits,
  routeOf,
} from './queueNames.ts';
import { DELAY, NOT_BEFORE, TRACES } from './reader.ts';
import { DELETE_OLD_BARRIERS } from './sql.ts';

/** Partitions of a new cluster. A power of two, so that a partition has whole shards. */
const PARTITIONS = 8;
/** Time for which publishing to a full queue fails without asking the broker. */
const FULL_MS = 1_000;
const MAINTENANCE_INTERVAL_MS = 5_000;
const READY_MS = 5_000;

export interface RabbitBusOptions {
  /** Limits of one partition. */
  readonly maxMessages?: number;
  readonly maxBytes?: number;
  /** Partitions of a new cluster. Default: 8. */
  readonly partitions?: number;
  readonly log?: Log;
  /** URL of the management API. Default: port 15672 or 15671 of the first broker. */
  readonly managementUrl?: string | undefined;
  readonly sessions?: SessionLimits | undefined;
}

/**
 * The bus over RabbitMQ 3.10 or newer. Members, barriers and the number of partitions are in the
 * database. The first call that needs the broker connects: reading feeds and committing posts work
 * without it. Such calls throw BROKER_UNREACHABLE, BROKER_REFUSED, BROKER_VHOST_UNKNOWN,
 * BROKER_TLS_FAILED or BROKER_TOO_OLD. The constructor throws CONFIG_INVALID.
 */
export class RabbitBus implements Bus {
  readonly kind = 'RabbitMQ';
  readonly #brokers: ServerUrl;
  readonly #managementUrl: string | undefined;
  /** Separate sessions: heartbeats of members must not wait for other queries. */
  readonly #db: Database;
  readonly #log: Log;
  readonly #limits: QueueLimits;
  readonly #firstPartitions: number;
  /** Two connections: an alarm of the broker blocks the one that publishes, and acks must not wait. */
  readonly #publishing: Connection;
  readonly #consuming: Connection;
  readonly #publisher: Publisher;
  readonly #adminChannel: AdminChannel;
  readonly #group: ConsumerGroup;
  readonly #barriers: Barriers;
  readonly #consumers = new Set<RabbitConsumer>();
  /** By queue, by the monotonic clock. */
  readonly #fullUntil = new Map<string, number>();
  #topology: Topology | undefined;
  #declaring: Promise<void> | undefined;
  #maintenance: NodeJS.Timeout | undefined;
  #maintaining: Promise<void> | undefined;
  #closing: Promise<void> | undefined;

  constructor(urls: string | ServerUrl, databaseUrl: string | ServerUrl, options: RabbitBusOptions = {}) {
    const brokers = ServerUrl.of(urls);
    const log = options.log ?? silentLog;
    const db = new Database(databaseUrl, {
      maxSessions: 4,
      applicationName: 'feedctl bus',
      ...options.sessions,
    });
    this.#brokers = brokers;
    this.#managementUrl = options.managementUrl;
    this.#db = db;
    this.#log = log;
    this.#firstPartitions = options.partitions ?? PARTITIONS;
    this.#limits = {
      maxMessages: options.maxMessages ?? 100_000,
      maxBytes: options.maxBytes ?? 1024 ** 3,
    };
    this.#publishing = new Connection(brokers, 'feedctl publishes', log, {
      onDown: () => this.#publisher.reset(),
    });
    this.#consuming = new Connection(brokers, 'feedctl consumes', log, {
      onUp: () => {
        setImmediate(() => {
          for (const consumer of this.#consumers) consumer.reopen();
        });
      },
    });
    this.#publisher = new Publisher(this.#publishing, (queue) =>
      this.#fullUntil.set(queue, performance.now() + FULL_MS),
    );
    this.#adminChannel = new AdminChannel(this.#consuming);
    this.#group = new ConsumerGroup(db, log, (topology) => {
      this.#topology = topology;
    });
    this.#barriers = new Barriers({
      db,
      adminChannel: this.#adminChannel,
      publisher: this.#publisher,
      declared: async () => (await this.#readTopology()).declared,
      consumedHere: (queue) => [...this.#consumers].some((consumer) => consumer.reads(queue)),
    });
  }

  async health(): Promise<BusHealth> {
    try {
      await this.#publishing.ready(0);
      const detail = this.#brokers.current
        .split(',')
        .map((url) => withoutPassword(url.trim()))
        .join(', ');
      return { version: this.#publishing.version, ready: true, detail };
    } catch (error) {
      return { version: this.#publishing.version, ready: false, detail: messageOf(error) };
    }
  }

  async check(): Promise<Check[]> {
    const { partitions } = await this.#readTopology();
    return checkBroker(
      parseEndpoints(this.#brokers.current),
      { partitions, limits: this.#limits },
      this.#managementUrl,
    );
  }

  /** Reason for which the broker takes no messages. undefined: it takes them. */
  get blocked(): string | undefined {
    return this.#publishing.blocked;
  }

  async partitions(): Promise<number> {
    return (this.#topology ?? (await this.#readTopology())).partitions;
  }

  reads(): string[] {
    return [...this.#consumers].flatMap((consumer) => consumer.open).sort();
  }

  async publish(messages: readonly Outgoing[]): Promise<void> {
    if (messages.length === 0) return;
    for (const { queue } of messages) {
      if ((this.#fullUntil.get(queue) ?? 0) > performance.now())
        throw new FeedctlError('QUEUE_FULL', `the queue ${queue} is at its limit`);
    }
    await this.partitions();
    const unroutable = await this.#publishRouted(messages).catch((error) => {
      if (!isFeedctlError(error, 'BROKER_UNROUTABLE')) throw error;
      return messages;
    });
    // A gateway without a queue has stopped: it has no sockets.
    const left = unroutable.filter((message) => isDurable(message.queue));
    if (left.length === 0) return;
    // The broker was set up again, or partitions were removed.
    await this.declare();
    const [lost] = await this.#publishRouted(left);
    if (lost) throw new FeedctlError('BROKER_UNROUTABLE', `no queue of the broker takes ${lost.queue}`);
  }

  /** Returns the messages that no queue takes. */
  async #publishRouted(messages: readonly Outgoing[]): Promise<Outgoing[]> {
    const routed = messages.map(
      ({ queue, body, key = 0, delayMs = 0, traces }): Routed => ({
        queue,
        ...routeOf(queue, key, this.#topology!.partitions),
        body,
        ...((delayMs > 0 || traces) && {
          headers: {
            ...(delayMs > 0 && { [NOT_BEFORE]: Date.now() + delayMs, [DELAY]: delayMs }),
            ...(traces && { [TRACES]: traces }),
          },
        }),
      }),
    );
    const unroutable = new Set(await this.#publisher.publish(routed));
    return messages.filter((_, i) => unroutable.has(routed[i]!));
  }

  async consume(
    options: ConsumeOptions,
    onDeliveries: (deliveries: Delivery[]) => void,
  ): Promise<RabbitConsumer> {
    await this.declare();
    const consumer = new RabbitConsumer(
      {
        log: this.#log,
        connection: this.#consuming,
        declared: () => this.#topology!.declared,
        declareLive: (channel, queue) => declareLiveQueue(channel, queue, this.#limits),
        declareTopology: () => this.declare(),
        deadLetter: (queue, message, reason) => this.#deadLetter(queue, message, reason),
        passBarriers: (name, ids) => this.#barriers.pass(name, ids),
      },
      options,
      onDeliveries,
      async () => {
        this.#consumers.delete(consumer);
        await this.#group.leave(consumer.id);
      },
    );
    this.#consumers.add(consumer);
    this.#maintenance ??= setInterval(() => {
      this.#maintaining ??= this.#maintain()
        .catch((error) => this.#log.warn({ reason: messageOf(error) }, 'bus maintenance failed'))
        .finally(() => {
          this.#maintaining = undefined;
        });
    }, MAINTENANCE_INTERVAL_MS);
    await this.#group.join(consumer);
    await consumer.start();
    return consumer;
  }

  placeBarrier(queues: Parameters<Barriers['place']>[0]): ReturnType<Barriers['place']> {
    return this.#barriers.place(queues);
  }

  hasPassed(barrier: Parameters<Barriers['hasPassed']>[0]): Promise<boolean> {
    return this.#barriers.hasPassed(barrier);
  }

  async holds(queues: readonly BarrierQueue[]): Promise<boolean> {
    // By name: a process without consumers does not know the number of partitions.
    const isIncluded = (name: string) =>
      queues.some((queue) => name.replace(/\.\d+$/, '') === `feed.${queue}`);
    const members = await this.#group.counts();
    return members.some((member) =>
      Object.entries(member).some(([name, { out, waiting }]) => out + waiting > 0 && isIncluded(name)),
    );
  }

  async depths(): Promise<QueueDepth[]> {
    const { declared } = await this.#readTopology();
    const states = await this.#adminChannel.states([
      ...DURABLE_QUEUES.flatMap((queue) => partitionsOf(queue, declared)),
      ...DEAD_LETTERS,
    ]);
    const members = await this.#group.counts();
    const kept = await countDeadLetters(this.#db);
    const consumed = [...(await this.#group.queues())].filter((queue) => !isDurable(queue));
    for (const [name, state] of await this.#adminChannel.states(consumed.map((queue) => `feed.${queue}`)))
      states.set(name, state);
    return [...DURABLE_QUEUES, ...consumed, 'live'].flatMap((queue): QueueDepth[] => {
      const names = isDurable(queue) ? partitionsOf(queue, declared) : [`feed.${queue}`];
      const counts = members
        .flatMap((member) => names.map((name): MessageCounts | undefined => member[name]))
        .filter((one) => one !== undefined);
      const sum = (numbers: readonly number[]) => numbers.reduce((total, one) => total + one, 0);
      const oldest = counts.map((one) => one.oldestMs).filter((ms) => ms !== undefined && ms !== null);
      const ready =
        sum(names.map((name) => states.get(name)?.ready ?? 0)) + sum(counts.map((one) => one.waiting));
      const deadLetters = (states.get(deadQueueOf(queue))?.ready ?? 0) + (kept.get(queue) ?? 0);
      const depth = {
        queue,
        ready,
        unacked: sum(counts.map((one) => one.out)),
        // Messages at the broker have no known age.
        oldestAgeMs: oldest.length > 0 ? Math.max(0, Date.now() - Math.min(...oldest)) : ready > 0 ? null : 0,
        // Dead letters of all gateways share one queue.
        deadLetters: isDurable(queue) || queue === 'live' ? deadLetters : 0,
      };
      return depth.ready + depth.unacked + depth.deadLetters > 0 ? [depth] : [];
    });
  }

  throughput(): Promise<Throughput[]> {
    return readThroughput(this.#db);
  }

  async peek(queue: string, limit: number): Promise<WaitingMessage[]> {
    const { declared } = await this.#readTopology();
    const names = isDurable(queue) ? partitionsOf(queue, declared) : [`feed.${queue}`];
    return peekQueues(await this.#consuming.ready(READY_MS), this.#adminChannel, names, limit);
  }

  collectDeadLetters(): Promise<void> {
    return collectDeadLetters(this.#adminChannel, (letters) => keepDeadLetters(this.#db, letters));
  }

  /** Purges a durable queue, deletes a gateway's. */
  async dropQueue(queue: string): Promise<void> {
    this.#fullUntil.delete(queue);
    const { declared } = await this.#readTopology();
    await this.#adminChannel.run(async (channel: Channel) => {
      if (!isDurable(queue)) await channel.deleteQueue(`feed.${queue}`);
      else for (const name of partitionsOf(queue, declared)) await channel.purgeQueue(name);
    });
  }

  /**
   * Declares what is missing at the broker. Throws BROKER_PLUGIN_MISSING, BROKER_TOPOLOGY_MISMATCH or
   * BROKER_REFUSED.
   */
  declare(): Promise<void> {
    this.#declaring ??= (async () => {
      this.#topology = await declare(this.#partitionsContext, this.#firstPartitions);
    })().finally(() => {
      this.#declaring = undefined;
    });
    return this.#declaring;
  }

  /** Changes the number of partitions while the cluster runs. No message is lost. Throws CONFIG_INVALID. */
  async changePartitions(partitions: number): Promise<void> {
    await changePartitions(this.#partitionsContext, partitions);
    await this.#readTopology();
  }

  close(): Promise<void> {
    this.#closing ??= (async () => {
      clearInterval(this.#maintenance);
      await this.#maintaining;
      await Promise.all([...this.#consumers].map((consumer) => consumer.stop(0)));
      await Promise.all([this.#publishing.close(), this.#consuming.close()]);
      await this.#db.close();
    })();
    return this.#closing;
  }

  async #readTopology(): Promise<Topology> {
    const first = this.#firstPartitions;
    const topology = (await readTopology(this.#db)) ?? { partitions: first, declared: first };
    this.#topology = topology;
    return topology;
  }

  get #partitionsContext(): PartitionsContext {
    return { db: this.#db, adminChannel: this.#adminChannel, group: this.#group, limits: this.#limits };
  }

  async #maintain(): Promise<void> {
    await this.#db.query(DELETE_OLD_BARRIERS);
    if (this.#topology!.declared > this.#topology!.partitions) await endDrained(this.#partitionsContext);
  }

  async #deadLetter(queue: string, message: InFlight, reason: string): Promise<void> {
    const unroutable = await this.#publisher.publish([
      {
        queue: deadQueueOf(queue),
        exchange: EXCHANGES.dead,
        key: deadQueueOf(queue),
        body: message.raw.content,
        headers: {
          queue,
          reason: messageOf(reason).slice(0, 2_000),
          attempts: message.attempts + 1,
          key: message.raw.fields.routingKey,
          'died-at': new Date().toISOString(),
        },
      },
    ]);
    if (unroutable.length > 0)
      throw new FeedctlError('BROKER_UNROUTABLE', 'the queue of dead letters is missing');
  }
}
