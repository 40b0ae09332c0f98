import type { Channel, ChannelModel } from 'amqplib';
import { Database, type SessionLimits } from '../../database/database.ts';
import { withoutPassword } from '../../database/url.ts';
import { Identity } from '../../identity/identity.ts';
import type { Check } from '../../model/check.ts';
import { ERRORS, FeedctlError, isFeedctlError, messageOf } from '../../model/errors.ts';
import { readAdopted, saveAdopted } from '../../store/adopted.ts';
import { forgetMessages } from '../../store/completeness.ts';
import { countDeadLetters, keepDeadLetters, type NewDeadLetter } from '../../store/deadLetters.ts';
import { type Log, silentLog } from '../../telemetry/log.ts';
import { ServerUrl } from '../../util/serverUrl.ts';
import { everyTick } from '../../util/ticks.ts';
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
import { AdminChannel, type QueueState } from './adminChannel.ts';
import { Barriers } from './barriers.ts';
import { checkBroker } from './checks.ts';
import { Connection } from './connection.ts';
import { RabbitConsumer } from './consumer.ts';
import { collectDeadLetters } from './deadLetters.ts';
import { type Endpoint, parseEndpoints } from './endpoints.ts';
import type { InFlight } from './inFlight.ts';
import { ConsumerGroup, type MessageCounts, type Topology } from './membership.ts';
import { ORIGIN, Origins } from './origins.ts';
import { markOwner, type Owner, onNewChannels, otherCluster, readOwner, replaceOwner } from './owner.ts';
import {
  changePartitions,
  declare,
  endDrained,
  MAX_PARTITIONS,
  type PartitionsContext,
  readTopology,
} from './partitions.ts';
import { peekQueues } from './peek.ts';
import { Probe } from './probe.ts';
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
  unbindPartitions,
} from './queueNames.ts';
import { DELAY, NOT_BEFORE, TRACES } from './reader.ts';
import { DELETE_OLD_BARRIERS } from './sql.ts';

/** Partitions of a new cluster. A power of two, so that a partition has whole shards. */
const PARTITIONS = 8;
/** Time for which publishing to a full queue fails without asking the broker. */
const FULL_MS = 1_000;
const MAINTENANCE_INTERVAL_MS = 5_000;
const READY_MS = 5_000;
/** Timeout of a connection that publishes: a user's request waits for it. */
const PUBLISH_READY_MS = 2_000;
/** Timeout of publishing while the broker's alarm blocks it. */
const BLOCKED_MS = 10_000;
/** Time for which a consumer's word counts that a queue has no more messages. */
const EMPTY_MS = 60_000;
/** Interval at which a role asks the broker whether its virtual host is still its own. */
const OWNER_INTERVAL_MS = 2_000;

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
  /** Default: that of the database, read when the broker is needed first. */
  readonly identity?: Identity | undefined;
}

/**
 * The bus over RabbitMQ 3.10 or newer. Members, barriers and the number of partitions are in the
 * database. The first call that needs the broker connects: reading feeds and committing posts work
 * without it. Such calls throw BROKER_UNREACHABLE, BROKER_REFUSED, BROKER_VHOST_UNKNOWN,
 * BROKER_TLS_FAILED, BROKER_TOO_OLD or BROKER_OTHER_CLUSTER. The constructor throws CONFIG_INVALID.
 *
 * A virtual host is one cluster's, which its queue `feed.cluster` names. Each new connection compares it.
 * Each message says which cluster and which history of the database it is from, and consumers compare that.
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
  readonly #probe: Probe;
  readonly #group: ConsumerGroup;
  readonly #barriers: Barriers;
  readonly #consumers = new Set<RabbitConsumer>();
  /** By queue, by the monotonic clock. */
  readonly #fullUntil = new Map<string, number>();
  /** Times at which the broker had no messages in a queue, by the monotonic clock. */
  readonly #emptyAt = new Map<string, number>();
  #identity: Promise<Identity> | undefined;
  #knownIdentity: Identity | undefined;
  #origins: Origins | undefined;
  /** The broker's mark names this cluster. Otherwise nothing is published before `declare`. */
  #owned = false;
  /** This process consumes, or has consumed. */
  #isRole = false;
  /** Why the virtual host is refused. */
  #refused: FeedctlError | undefined;
  /** The owner of the virtual host is being replaced. */
  #adopting = false;
  #topology: Topology | undefined;
  #declaring: Promise<void> | undefined;
  #endTimers: (() => void) | undefined;
  #maintaining: Promise<void> | undefined;
  #checkingOwner: Promise<void> | undefined;
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
    if (options.identity) this.#take(options.identity);
    this.#firstPartitions = options.partitions ?? PARTITIONS;
    this.#limits = {
      maxMessages: options.maxMessages ?? 100_000,
      maxBytes: options.maxBytes ?? 1024 ** 3,
    };
    this.#publishing = new Connection(brokers, 'feedctl publishes', log, {
      onUp: (connection, endpoint) => this.#confirmOwner(connection, endpoint),
      onDown: () => this.#publisher.reset(),
    });
    this.#consuming = new Connection(brokers, 'feedctl consumes', log, {
      onUp: async (connection, endpoint) => {
        await this.#confirmOwner(connection, endpoint);
        setImmediate(() => {
          for (const consumer of this.#consumers) consumer.reopen();
        });
      },
    });
    this.#publisher = new Publisher(this.#publishing, (queue) =>
      this.#fullUntil.set(queue, performance.now() + FULL_MS),
    );
    this.#adminChannel = new AdminChannel(this.#consuming);
    this.#probe = new Probe(this.#publishing, EXCHANGES.live, () => this.declare());
    this.#group = new ConsumerGroup(db, log, (topology) => {
      this.#topology = topology;
    });
    this.#barriers = new Barriers({
      db,
      adminChannel: this.#adminChannel,
      publisher: this.#publisher,
      declared: async () => (await this.#readTopology()).declared,
      consumedHere: (queue) => [...this.#consumers].some((consumer) => consumer.reads(queue)),
      lineage: async () => (await this.#identify()).lineage,
    });
  }

  /** Reads the identity of the cluster, once. Sessions of this bus are confirmed from then on. */
  #identify(): Promise<Identity> {
    this.#identity ??= Identity.open(this.#db, this.#log).then(
      (identity) => this.#take(identity),
      (error) => {
        this.#identity = undefined;
        throw error;
      },
    );
    return this.#identity;
  }

  #take(identity: Identity): Identity {
    this.#identity ??= Promise.resolve(identity);
    this.#knownIdentity = identity;
    this.#origins = new Origins(this.#db, identity);
    identity.guard(this.#db);
    return identity;
  }

  lineage(): string | undefined {
    return this.#knownIdentity?.lineage;
  }

  refusal(): FeedctlError | undefined {
    return this.#refused ?? [...this.#consumers].map((one) => one.refusal).find((one) => one !== undefined);
  }

  /** Throws BROKER_OTHER_CLUSTER. */
  async #confirmOwner(connection: ChannelModel, endpoint: Endpoint): Promise<void> {
    if (this.#adopting) return;
    const { cluster } = await this.#identify();
    const owner = await readOwner(onNewChannels(connection), cluster);
    this.#owned = owner === 'own';
    const mayMark = owner === 'none' || (owner === 'unmarked' && (await readTopology(this.#db)));
    if (owner !== 'own' && owner !== 'none' && !mayMark) this.#refuse(owner, cluster, endpoint);
    this.#refused = undefined;
  }

  #refuse(owner: Exclude<Owner, 'own' | 'none'>, cluster: string, endpoint: Endpoint): never {
    const error = otherCluster(endpoint, owner, cluster);
    if (this.#refused?.message !== error.message)
      this.#log.error({ code: error.code, cluster, reason: error.message }, 'the broker is refused');
    this.#refused = error;
    throw error;
  }

  /**
   * Marks the virtual host as this cluster's, unless it is already. Also if a version without marks has
   * declared the queues, and this database knows of a broker. Throws BROKER_OTHER_CLUSTER.
   */
  async #own(): Promise<void> {
    const connection = await this.#consuming.ready(READY_MS);
    if (this.#owned) return;
    const { cluster } = await this.#identify();
    const owner = await this.#onBroker(() => markOwner(onNewChannels(connection), cluster));
    if (owner !== 'own') this.#refuse(owner, cluster, this.#consuming.endpoint);
    this.#owned = true;
  }

  async #onBroker<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw this.#consuming.explain(error);
    }
  }

  /** Gives the connections up if the virtual host has become another cluster's. */
  async #checkOwner(): Promise<void> {
    await this.#consuming.ready(0);
    const { cluster } = await this.#identify();
    const owner = await readOwner((work) => this.#adminChannel.run(work), cluster);
    this.#owned = owner === 'own';
    if (typeof owner !== 'object') return;
    try {
      this.#refuse(owner, cluster, this.#consuming.endpoint);
    } catch (error) {
      await Promise.all([this.#publishing.drop(error), this.#consuming.drop(error)]);
    }
  }

  /** Returns the other cluster that the virtual host belongs to, or undefined. Changes nothing. */
  async otherOwner(cluster: string): Promise<string | undefined> {
    this.#adopting = true;
    try {
      const connection = await this.#consuming.ready(READY_MS);
      const owner = await this.#onBroker(() => readOwner(onNewChannels(connection), cluster));
      return typeof owner === 'object' ? owner.other : undefined;
    } finally {
      this.#adopting = false;
    }
  }

  /**
   * Makes the virtual host this cluster's. Its earlier owner is gone: the messages of that cluster are
   * dropped. Messages of unknown histories of this cluster are taken as far as they are still true. Messages
   * that were lost with the earlier owner are dispatched again. Returns the earlier owner.
   */
  async adopt(): Promise<string | undefined> {
    this.#adopting = true;
    try {
      const { cluster } = await this.#identify();
      const connection = await this.#consuming.ready(READY_MS);
      const owner = await this.#onBroker(() => readOwner(onNewChannels(connection), cluster));
      const other = typeof owner === 'object' ? owner.other : undefined;
      await saveAdopted(this.#db, other);
      if (owner !== 'own') {
        await forgetMessages(this.#db);
        await this.#onBroker(() => replaceOwner(onNewChannels(connection), cluster));
      }
      await this.#own();
      this.#refused = undefined;
      await this.declare();
      // The earlier owner may have had more partitions: events would go to queues that are not read.
      const { declared } = await this.#readTopology();
      await this.#adminChannel.run((channel) => unbindPartitions(channel, declared, MAX_PARTITIONS));
      return other;
    } finally {
      this.#adopting = false;
    }
  }

  serverName(): string | undefined {
    return this.#publishing.serverName ?? this.#consuming.serverName;
  }

  async health(): Promise<BusHealth> {
    try {
      const connection = await this.#publishing.ready(0);
      const refusal = this.refusal();
      if (refusal) throw refusal;
      // A role publishes. The shell of an operator may not be allowed to.
      if (this.#isRole) await this.#probe.check(connection);
      const detail = this.#brokers.current
        .split(',')
        .map((url) => withoutPassword(url.trim()))
        .join(', ');
      return { version: this.#publishing.version, ready: true, detail };
    } catch (error) {
      // A process that is refused connects again and again, and is not connected in between.
      const reason = this.refusal() ?? error;
      const { code } = isFeedctlError(reason) ? reason : { code: 'BROKER_UNREACHABLE' as const };
      return { version: this.#publishing.version, ready: false, detail: messageOf(reason), code };
    }
  }

  async check(): Promise<Check[]> {
    const topology = await readTopology(this.#db);
    const { cluster } = await this.#identify();
    const partitions = topology?.partitions ?? this.#firstPartitions;
    const situation = { partitions, limits: this.#limits, cluster, usedBefore: topology !== undefined };
    const endpoints = parseEndpoints(this.#brokers.current);
    const checks = await checkBroker(endpoints, situation, this.#managementUrl);
    return [...checks, ...(await this.#refusedQueues())];
  }

  /** Queues that a process does not consume, because of a message in them. */
  async #refusedQueues(): Promise<Check[]> {
    const counts = (await this.#group.counts()).flatMap((member) => Object.entries(member));
    const faults = counts.flatMap(([queue, { refused }]): [string, Check][] => {
      if (!refused) return [];
      const { code, message } = refused;
      return [[code, { name: code, status: 'fault', detail: `${queue}: ${message}`, fix: ERRORS[code].fix }]];
    });
    return [...new Map(faults).values()];
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
    if (!this.#knownIdentity) await this.#identify();
    // Read first: what follows may take long, and a failover may end that history meanwhile.
    const lineage = this.#knownIdentity!.lineage;
    await this.#publishing.ready(PUBLISH_READY_MS, BLOCKED_MS);
    if (!this.#owned) await this.declare();
    await this.partitions();
    const unroutable = await this.#publishRouted(messages, lineage).catch((error) => {
      if (!isFeedctlError(error, 'BROKER_UNROUTABLE')) throw error;
      return messages;
    });
    // A gateway without a queue has stopped: it has no sockets.
    const left = unroutable.filter((message) => isDurable(message.queue));
    if (left.length === 0) return;
    // The broker was set up again, or partitions were removed.
    await this.declare();
    const [lost] = await this.#publishRouted(left, lineage);
    if (lost) throw new FeedctlError('BROKER_UNROUTABLE', `no queue of the broker takes ${lost.queue}`);
  }

  /** Returns the messages that no queue takes. */
  async #publishRouted(messages: readonly Outgoing[], present: string): Promise<Outgoing[]> {
    const origins = new Map<string, string>();
    for (const { lineage = present } of messages)
      if (!origins.has(lineage)) origins.set(lineage, await this.#origins!.present(lineage));
    const routed = messages.map(
      ({ queue, body, key = 0, delayMs = 0, traces, lineage = present }): Routed => ({
        queue,
        ...routeOf(queue, key, this.#topology!.partitions),
        body,
        headers: {
          [ORIGIN]: origins.get(lineage),
          ...(delayMs > 0 && { [NOT_BEFORE]: Date.now() + delayMs, [DELAY]: delayMs }),
          ...(traces && { [TRACES]: traces }),
        },
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
    this.#isRole = true;
    const consumer = new RabbitConsumer(
      {
        log: this.#log,
        connection: this.#consuming,
        origins: this.#origins!,
        declared: () => this.#topology!.declared,
        declareLive: (channel, queue) => declareLiveQueue(channel, queue, this.#limits),
        declareTopology: () => this.declare(),
        count: async (name) => (await this.#adminChannel.states([name])).get(name)?.ready ?? 0,
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
    this.#endTimers ??= this.#startTimers();
    await this.#group.join(consumer);
    await consumer.start();
    return consumer;
  }

  /** Returns a function that ends the timers. */
  #startTimers(): () => void {
    const endOwnerCheck = everyTick(OWNER_INTERVAL_MS, () => {
      this.#checkingOwner ??= this.#checkOwner()
        .catch(() => {}) // The connection reports its errors itself.
        .finally(() => {
          this.#checkingOwner = undefined;
        });
    });
    const endMaintenance = everyTick(MAINTENANCE_INTERVAL_MS, () => {
      this.#maintaining ??= this.#maintain()
        .catch((error) => this.#log.warn({ reason: messageOf(error) }, 'bus maintenance failed'))
        .finally(() => {
          this.#maintaining = undefined;
        });
    });
    return () => {
      endOwnerCheck();
      endMaintenance();
    };
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
    const states = await this.#states([
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

  /**
   * Returns the states of queues. Leaves out those that this process consumes and has emptied: the broker is
   * asked about them once a minute only, because another consumer may be the active one.
   */
  async #states(names: readonly string[]): Promise<Map<string, QueueState>> {
    const now = performance.now();
    const drained = new Set([...this.#consumers].flatMap((consumer) => consumer.drained));
    const isEmpty = (name: string) =>
      drained.has(name) && now - (this.#emptyAt.get(name) ?? Number.NEGATIVE_INFINITY) < EMPTY_MS;
    const asked = names.filter((name) => !isEmpty(name));
    const states = await this.#adminChannel.states(asked);
    for (const name of asked) {
      if (states.get(name)?.ready === 0) this.#emptyAt.set(name, now);
      else this.#emptyAt.delete(name);
    }
    return states;
  }

  throughput(): Promise<Throughput[]> {
    return readThroughput(this.#db);
  }

  async peek(queue: string, limit: number): Promise<WaitingMessage[]> {
    const { declared } = await this.#readTopology();
    const names = isDurable(queue) ? partitionsOf(queue, declared) : [`feed.${queue}`];
    return peekQueues(await this.#consuming.ready(READY_MS), this.#adminChannel, names, limit);
  }

  async collectDeadLetters(): Promise<void> {
    const keep = (letters: readonly NewDeadLetter[]) => keepDeadLetters(this.#db, letters);
    const { cluster } = await this.#identify();
    const { clusters: gone } = await readAdopted(this.#db);
    return collectDeadLetters(this.#adminChannel, { own: cluster, gone }, keep);
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
   * BROKER_REFUSED, or BROKER_OTHER_CLUSTER: then it declares nothing.
   */
  declare(): Promise<void> {
    this.#declaring ??= (async () => {
      await this.#own();
      await this.#noticeLoss();
      this.#topology = await declare(this.#partitionsContext, this.#firstPartitions);
    })().finally(() => {
      this.#declaring = undefined;
    });
    return this.#declaring;
  }

  /** A queue that the cluster had is missing: its messages are lost, and are dispatched again. */
  async #noticeLoss(): Promise<void> {
    const topology = await readTopology(this.#db);
    if (!topology) return;
    const names = DURABLE_QUEUES.flatMap((queue) => partitionsOf(queue, topology.partitions));
    const states = await this.#adminChannel.states(names);
    if (states.size < names.length) await forgetMessages(this.#db);
  }

  /** Changes the number of partitions while the cluster runs. No message is lost. Throws CONFIG_INVALID. */
  async changePartitions(partitions: number): Promise<void> {
    await this.#own();
    await changePartitions(this.#partitionsContext, partitions);
    await this.#readTopology();
  }

  close(): Promise<void> {
    this.#closing ??= (async () => {
      this.#endTimers?.();
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
          [ORIGIN]: message.raw.properties.headers?.[ORIGIN],
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
