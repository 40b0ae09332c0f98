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
import type { Clock } from '../store/databaseClock.ts';
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
  readonly clock: Clock;
  /** Used if it is notified of every change before the change is acknowledged. */
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
  /** Bytes of frames that wait in this process. */
  readonly bufferedBytes: number;
  /** Posts sent in this session. */
  readonly delivered: number;
  /** Since the last post; null without one. */
  readonly lastDeliveredMsAgo: number | null;
}

/** The sockets of one gateway, and the posts that arrive for them. */
export class Hub {
  readonly #context: HubContext;
  /**
   * Arrays are replaced, never changed. For the one session that most users have, a Set takes four
   * times the memory.
   */
  readonly #online = new Map<number, readonly Session[]>();
  readonly #sender: Sender;
  readonly #catchUp: CatchUp;
  #gatewayId: string;
  #announcer: PresenceAnnouncer;
  #consumer: Consumer | undefined;
  /** One handler for the queues before and after a move. */
  readonly #take = serialBatches((deliveries) => this.#handle(deliveries));
  #consumed = false;
  /**
   * Called when consuming the queue stops and when it starts again: messages in between may be
   * lost.
   */
  onConsumed: ((consumed: boolean) => void) | undefined;
  #sockets = 0;

  constructor(context: HubContext, gatewayId: string) {
    this.#context = context;
    this.#gatewayId = gatewayId;
    this.#announcer = this.#newAnnouncer();
    this.#sender = new Sender(context, this.#online);
    this.#catchUp = new CatchUp(context, {
      gatewayId: () => this.#gatewayId,
      isOpen: (session) => this.#isOpen(session),
      send: (records, session) => this.#sender.send(records, { only: session }),
    });
  }

  /** True while the gateway's queue is consumed. */
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

  /** Number of users announced as online; undefined while changes wait. */
  get announced(): number | undefined {
    return this.#announcer.size;
  }

  /** Bytes that wait in this process until clients read them. */
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

  #newAnnouncer(): PresenceAnnouncer {
    return new PresenceAnnouncer(this.#context.db, this.#gatewayId, (userId) => this.#online.has(userId));
  }

  /** Creates the queue of this gateway and consumes it. */
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
   * Continues under another id with another queue: a worker that declared this gateway dead may
   * still be deleting its rows. Every user must be announced and every session caught up after
   * this.
   */
  async move(gatewayId: string): Promise<void> {
    const [consumer, announcer] = [this.#consumer, this.#announcer];
    this.#gatewayId = gatewayId;
    this.#announcer = this.#newAnnouncer();
    await announcer.close();
    await this.start();
    await consumer?.stop(0);
  }

  /** Announces every online user who is not announced. */
  async announce(): Promise<void> {
    await this.#announcer.update(this.#online.keys());
  }

  /**
   * Keeps cursors below posts of this time, because older posts may still arrive; `undefined`: no
   * limit.
   */
  limitWatermarks(sinceMs: number | undefined): void {
    this.#sender.watermarkLimit =
      sinceMs === undefined ? Number.POSITIVE_INFINITY : firstIdAt(sinceMs - REORDER_MS);
  }

  /**
   * Adds a session. `after`: the client resumes there, or from now on if that is ahead. Nothing is sent
   * before `connect`.
   */
  open(socket: LiveSocket, userId: number, after?: Cursor): Session {
    // A post of a moment ago may arrive later: clocks and latencies differ.
    const cursor = after && !after.isAhead ? after : newestCursor(this.#context.clock.now());
    const session = new Session(socket, userId, cursor, after !== undefined);
    session.isLost = after?.isAhead ?? false;
    this.#online.set(userId, [...(this.#online.get(userId) ?? []), session]);
    this.#sockets += 1;
    session.behind = session.resumes;
    return session;
  }

  /**
   * Resolves when missed posts are sent and every post committed from now on will reach this
   * session.
   */
  async connect(session: Session): Promise<void> {
    try {
      await this.#announcer.update([session.userId]);
      session.announced = true;
      await this.#catchUp.catchUp(session);
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
    this.#sender.invalidate(session.userId);
    // A failed announcement is repeated with the next heartbeat.
    this.#announcer.update([session.userId]).catch(() => {});
  }

  /** Closes every socket of an erased user. */
  closeUser(userId: number): void {
    for (const { socket } of this.#online.get(userId) ?? [])
      socket.close(CLOSE_CODES.policy, 'the user was erased');
  }

  /** Repeats failed announcements. */
  retryAnnouncing(): Promise<void> {
    return this.#announcer.retry();
  }

  /**
   * Sends every session the posts that it has missed. Resolves when all sessions are up to date.
   */
  async catchUp(): Promise<void> {
    const sessions = this.#all();
    for (const session of sessions) {
      session.pending ??= [];
      session.behind = true;
    }
    let failure: unknown;
    await Promise.all(
      // A session that is not announced yet reads its feed after its announcement.
      sessions
        .filter((session) => session.announced)
        .map((session) =>
          this.#catchUp.catchUp(session).catch((error) => {
            if (isTransient(error)) failure ??= error;
            else session.socket.close(CLOSE_CODES.internal, 'the feed could not be read');
          }),
        ),
    );
    if (failure) throw failure;
  }

  /** Handles an unfollow by the user. Resolves when no frame of an older check is in flight. */
  unfollowed(userId: number, timeoutMs: number): Promise<void> {
    return this.#sender.unfollowed(userId, timeoutMs);
  }

  /**
   * Closes every socket, a thousand a second, or faster if that would take longer than `ms`: their
   * clients reconnect to other gateways one after the other. Sockets that are still open get posts
   * meanwhile.
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
    const { clock, metrics, tracing, log } = this.#context;
    const records: LiveRecord[] = [];
    const decoded: { delivery: Delivery; committedAt: number; lane: LaneName }[] = [];
    for (const delivery of deliveries) {
      try {
        const { live, committedAt, bulk } = decodeLive(delivery.body);
        for (const record of live) records.push(record);
        decoded.push({ delivery, committedAt, lane: bulk ? 'bulk' : 'live' });
      } catch (error) {
        failDelivery(delivery, error, this.#context);
      }
    }
    const from = tracing && mergedTraces(decoded.map(({ delivery }) => decodeTraces(delivery.traces)));
    const spans =
      from &&
      beginBatch(tracing, { batch: 'process live', each: 'push post' }, from, {
        'messaging.destination.name': 'live',
        'messaging.batch.message_count': decoded.length,
        'feedctl.gateway.id': this.#gatewayId,
      });
    const pushed = from && new Map([...from.keys()].map((postId) => [postId, 0]));
    try {
      await this.#sender.send(records, { pushed });
      spans?.end({
        each: (id) => ({ 'feedctl.post.id': String(id), 'feedctl.sockets': pushed!.get(id) ?? 0 }),
      });
      log.debug?.({ recipients: records.length, ...idsOfPosts(records) }, 'posts pushed');
      for (const { delivery, committedAt, lane } of decoded) {
        delivery.ack();
        const tookMs = Math.max(0, clock.now() - committedAt);
        metrics?.observe('feedctl_gateway_push_seconds', tookMs / 1000, { lane });
      }
      metrics?.count('feedctl_bus_handled_total', decoded.length, { queue: 'live' });
    } catch (error) {
      spans?.end({ error });
      for (const { delivery } of decoded) failDelivery(delivery, error, this.#context);
    }
  }
}

/** Opens the hub of a gateway and creates its queue. */
export async function openHub(context: HubContext & { gatewayId: string }): Promise<Hub> {
  const hub = new Hub(context, context.gatewayId);
  await hub.start();
  return hub;
}
