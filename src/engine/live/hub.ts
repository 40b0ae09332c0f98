import { setTimeout as sleep } from 'node:timers/promises';
import type { Bus, Consumer, Delivery } from '../bus/bus.ts';
import { failDelivery } from '../bus/failDelivery.ts';
import { serialBatches } from '../bus/serialBatches.ts';
import type { FeedCache } from '../cache/cache.ts';
import type { Database } from '../database/database.ts';
import { firstIdAt } from '../model/ids.ts';
import type { LaneName } from '../model/lanes.ts';
import { idsOfPosts } from '../model/messageIds.ts';
import { decodeLive, type LiveRecord } from '../model/messages.ts';
import { isTransient } from '../resilience/classify.ts';
import type { Log } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { beginBatch, decodeTraces, mergedTraces, type Tracing } from '../telemetry/tracing.ts';
import { PresenceAnnouncer } from './announcer.ts';
import { CatchUp, newestCursor } from './catchUp.ts';
import { type Cursor, REORDER_MS } from './cursor.ts';
import { liveQueue } from './notifier.ts';
import { Sender } from './sender.ts';
import { CLOSE_CODES, type LiveSocket, Session } from './session.ts';

const PREFETCH = 50;

export interface HubContext {
  readonly db: Database;
  readonly bus: Bus;
  /** Used where it is told of every change before that is acknowledged. */
  readonly cache?: FeedCache | undefined;
  readonly log: Log;
  readonly metrics?: Metrics | undefined;
  readonly tracing?: Tracing | undefined;
}

/** One open socket, as operators see it. */
export interface Connection {
  readonly userId: number;
  readonly address: string;
  readonly since: Date;
  /** Frames that wait in this process, in bytes. */
  readonly bufferedBytes: number;
  /** Posts sent in this session. */
  readonly delivered: number;
  /** Since the last of them; null where there was none. */
  readonly lastDeliveredMsAgo: number | null;
}

/** The sockets of one gateway, and the posts that come for them. */
export class Hub {
  readonly #context: HubContext;
  /** Arrays, which are replaced and never changed: a Set would take four times the memory for the one that most have. */
  readonly #online = new Map<number, readonly Session[]>();
  readonly #sender: Sender;
  readonly #catchUp: CatchUp;
  #gatewayId: string;
  #announcer: PresenceAnnouncer;
  #consumer: Consumer | undefined;
  /** The same for the queue before a move and the one after it. */
  readonly #take = serialBatches((deliveries) => this.#handle(deliveries));
  #consumed = false;
  /** Told when the queue is no longer consumed, and when it is again: what came meanwhile may be lost. */
  onConsumed: ((consumed: boolean) => void) | undefined;
  #sockets = 0;

  constructor(context: HubContext, gatewayId: string) {
    this.#context = context;
    this.#gatewayId = gatewayId;
    this.#announcer = this.#newRoster();
    this.#sender = new Sender(context, this.#online);
    this.#catchUp = new CatchUp(context, {
      gatewayId: () => this.#gatewayId,
      isOpen: (session) => this.#isOpen(session),
      send: (records, session) => this.#sender.send(records, { only: session }),
    });
  }

  /** Whether what comes to the gateway's queue is taken. */
  get consumed(): boolean {
    return this.#consumed;
  }

  get gatewayId(): string {
    return this.#gatewayId;
  }

  get sockets(): number {
    return this.#sockets;
  }

  /** Frames sent since the start. */
  get pushed(): number {
    return this.#sender.sent;
  }

  /** Users who are announced as online; undefined while that changes. */
  get announced(): number | undefined {
    return this.#announcer.size;
  }

  /** What waits in this process for clients to take it. */
  get bufferedBytes(): number {
    let bytes = 0;
    for (const sessions of this.#online.values())
      for (const { socket } of sessions) bytes += socket.bufferedBytes;
    return bytes;
  }

  socketsOf(userId: number): number {
    return this.#online.get(userId)?.length ?? 0;
  }

  *connections(userId?: number): Generator<Connection> {
    const sets = userId === undefined ? this.#online.values() : [this.#online.get(userId) ?? []];
    for (const sessions of sets) {
      for (const { userId, socket, since, delivered, deliveredAt } of sessions) {
        const { address, bufferedBytes } = socket;
        const lastDeliveredMsAgo = delivered > 0 ? performance.now() - deliveredAt : null;
        yield { userId, address, since: new Date(since), bufferedBytes, delivered, lastDeliveredMsAgo };
      }
    }
  }

  #newRoster(): PresenceAnnouncer {
    return new PresenceAnnouncer(this.#context.db, this.#gatewayId, (userId) => this.#online.has(userId));
  }

  /** Makes the queue of this gateway and takes what comes. */
  async start(): Promise<void> {
    const gatewayId = this.#gatewayId;
    const onConsumed = (consumed: boolean) => {
      if (gatewayId !== this.#gatewayId) return;
      this.#consumed = consumed;
      this.onConsumed?.(consumed);
    };
    this.#consumed = false;
    this.#consumer = await this.#context.bus.consume(
      { queues: [liveQueue(gatewayId)], prefetch: PREFETCH, onConsumed },
      this.#take,
    );
  }

  /**
   * Under another name, with another queue: whoever held this gateway to be dead may still be putting away what it
   * had. Everyone has to be announced and caught up after that.
   */
  async move(gatewayId: string): Promise<void> {
    const [consumer, announcer] = [this.#consumer, this.#announcer];
    this.#gatewayId = gatewayId;
    this.#announcer = this.#newRoster();
    await announcer.close();
    await this.start();
    await consumer?.stop(0);
  }

  /** Announces everyone who is not, or no longer. */
  async announce(): Promise<void> {
    await this.#announcer.update(this.#online.keys());
  }

  /** From now on cursors reach back to what came before this moment; `undefined`: they need not. */
  hold(sinceMs: number | undefined): void {
    this.#sender.hold = sinceMs === undefined ? Number.POSITIVE_INFINITY : firstIdAt(sinceMs - REORDER_MS);
  }

  /** `after`: the client goes on where it was. Nothing comes before `connect`. */
  open(socket: LiveSocket, userId: number, after?: Cursor): Session {
    // A post that was made just before may come after: clocks differ, and so do the ways of posts.
    const session = new Session(socket, userId, after ?? newestCursor(), after !== undefined);
    this.#online.set(userId, [...(this.#online.get(userId) ?? []), session]);
    this.#sockets += 1;
    session.behind = session.resumes;
    return session;
  }

  /** Resolves when every post committed from now on will reach this session, and what it has missed has. */
  async connect(session: Session): Promise<void> {
    try {
      await this.#announcer.update([session.userId]);
      session.announced = true;
      await this.#catchUp.bringUp(session);
    } catch (error) {
      this.disconnect(session);
      throw error;
    }
  }

  disconnect(session: Session): void {
    if (!this.#isOpen(session)) return;
    this.#sockets -= 1;
    session.pending = undefined;
    const others = this.#online.get(session.userId)!.filter((other) => other !== session);
    if (others.length > 0) {
      this.#online.set(session.userId, others);
      return;
    }
    this.#online.delete(session.userId);
    this.#sender.doubt(session.userId);
    // What cannot be said now is said with the next heartbeat.
    this.#announcer.update([session.userId]).catch(() => {});
  }

  /** Closes every socket of a user who is no more. */
  closeUser(userId: number): void {
    for (const { socket } of this.#online.get(userId) ?? [])
      socket.close(CLOSE_CODES.policy, 'the user is gone');
  }

  /** What could not be announced is tried again. */
  retryAnnouncing(): Promise<void> {
    return this.#announcer.retry();
  }

  /** Sends every socket what its feed has and it has not got. Resolves when all of them are up to date. */
  async catchUp(): Promise<void> {
    const sessions = this.#all();
    for (const session of sessions) {
      session.pending ??= [];
      session.behind = true;
    }
    let failure: unknown;
    await Promise.all(
      // One that is not announced yet looks at its feed after that.
      sessions
        .filter((session) => session.announced)
        .map((session) =>
          this.#catchUp.bringUp(session).catch((error) => {
            if (isTransient(error)) failure ??= error;
            else session.socket.close(CLOSE_CODES.internal, 'the feed could not be read');
          }),
        ),
    );
    if (failure) throw failure;
  }

  /** The user has unfollowed somebody. Resolves when no frame that was checked before is on its way any more. */
  unfollowed(userId: number, budgetMs: number): Promise<void> {
    return this.#sender.unfollowed(userId, budgetMs);
  }

  /**
   * Closes every socket, a thousand a second, or faster where that would take longer than `ms`: their clients come
   * back elsewhere one after the other. What comes meanwhile still goes to those that are open.
   */
  async drain(ms: number): Promise<void> {
    const sessions = this.#all();
    const spread = Math.min(1, ms / sessions.length);
    const startedAt = performance.now();
    for (const [i, session] of sessions.entries()) {
      session.socket.close(CLOSE_CODES.restart, 'the gateway stops: reconnect with your cursor');
      const ahead = startedAt + spread * i - performance.now();
      if (ahead > 5) await sleep(ahead);
    }
  }

  async stop(deadlineMs: number): Promise<void> {
    await this.#consumer?.stop(deadlineMs);
    await this.#context.bus.dropQueue(liveQueue(this.#gatewayId));
  }

  #all(): Session[] {
    return [...this.#online.values()].flat();
  }

  #isOpen(session: Session): boolean {
    return this.#online.get(session.userId)?.includes(session) ?? false;
  }

  async #handle(deliveries: readonly Delivery[]): Promise<void> {
    const { metrics, tracing, log } = this.#context;
    const records: LiveRecord[] = [];
    const good: { delivery: Delivery; committedAt: number; lane: LaneName }[] = [];
    for (const delivery of deliveries) {
      try {
        const { live, committedAt, bulk } = decodeLive(delivery.body);
        for (const record of live) records.push(record);
        good.push({ delivery, committedAt, lane: bulk ? 'bulk' : 'live' });
      } catch (error) {
        failDelivery(delivery, error, this.#context);
      }
    }
    const from = tracing && mergedTraces(good.map(({ delivery }) => decodeTraces(delivery.traces)));
    const spans =
      from &&
      beginBatch(tracing, { batch: 'process live', each: 'push post' }, from, {
        'messaging.destination.name': 'live',
        'messaging.batch.message_count': good.length,
        'feedctl.gateway.id': this.#gatewayId,
      });
    const pushed = from && new Map([...from.keys()].map((postId) => [postId, 0]));
    try {
      await this.#sender.send(records, { pushed });
      spans?.end({
        each: (id) => ({ 'feedctl.post.id': String(id), 'feedctl.sockets': pushed!.get(id) ?? 0 }),
      });
      log.debug?.({ recipients: records.length, ...idsOfPosts(records) }, 'posts pushed');
      for (const { delivery, committedAt, lane } of good) {
        delivery.ack();
        const tookMs = Math.max(0, Date.now() - committedAt);
        metrics?.observe('feedctl_gateway_push_seconds', tookMs / 1000, { lane });
      }
      metrics?.count('feedctl_bus_handled_total', good.length, { queue: 'live' });
    } catch (error) {
      spans?.end({ error });
      for (const { delivery } of good) failDelivery(delivery, error, this.#context);
    }
  }
}

/** Opens the hub of a gateway, whose queue is there from then on. */
export async function openHub(context: HubContext & { gatewayId: string }): Promise<Hub> {
  const hub = new Hub(context, context.gatewayId);
  await hub.start();
  return hub;
}
