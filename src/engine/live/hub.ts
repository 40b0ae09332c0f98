import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { bulkhead } from 'cockatiel';
import type { Bus, Consumer, Delivery } from '../bus/bus.ts';
import { giveBack } from '../bus/giveBack.ts';
import { inBatches } from '../bus/inBatches.ts';
import type { FeedCache } from '../cache/cache.ts';
import { type FeedPage, type FeedQuery, readFeed } from '../feed/read.ts';
import { FeedctlError } from '../model/errors.ts';
import { FEED_LIMIT } from '../model/feed.ts';
import { firstIdAt } from '../model/ids.ts';
import { decodeLive, EVERY_FOLLOWER, type LiveRecord, WITHDRAWN } from '../model/messages.ts';
import { isPassing } from '../resilience/failure.ts';
import type { Database } from '../store/database.ts';
import { type AddressedPost, followersAmong, postsForFollowers, postsForUsers } from '../store/live.ts';
import type { Log } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { type Cursor, REMEMBERED, REORDER_MS } from './cursor.ts';
import { deletedFrames, type Frames, helloFrame, postFrames } from './frames.ts';
import { liveQueue } from './notifier.ts';
import { Roster } from './roster.ts';
import { CLOSE_CODES, type LiveSocket, Session } from './session.ts';

const PREFETCH = 50;
/**
 * No frame is sent on a check of follows that is older than this by the monotonic clock: an unfollow that this
 * gateway has not confirmed is answered after 500 ms (`unfollows.ts`), and no frame follows it. A process that was
 * stopped in between checks again.
 */
const FRESH_MS = 400;
/** Frames of one check: so many are sent in a fraction of that time. */
const CHECKED_TOGETHER = 4_000;
const FEWEST_CHECKED = 50;
/** Checks that were too slow, one after the other: then the message is tried again later. */
const SLOW_CHECKS = 8;
/** A client that was away for longer than so many posts reads its feed instead. */
export const RESUME_LIMIT = FEED_LIMIT;
/** Feeds that are read at a time to find what a socket has missed. */
const FILLS = 8;
const FIRST_PAGE = 50;
const NEXT_PAGES = 500;
/** Replayed posts are sent in parts, each when the client has taken most of the part before. */
const REPLAYED_TOGETHER = 100;
const REPLAY_BUFFERED_BYTES = 64 * 1024;
const REPLAY_WAIT_MS = 10_000;
/** Posts that came while a session was being brought up to date: past this it is behind once more. */
const MOST_PENDING = 1_000;

export interface HubContext {
  readonly db: Database;
  readonly bus: Bus;
  /** Used where it is told of every change before that is acknowledged. */
  readonly cache?: FeedCache | undefined;
  readonly log: Log;
  readonly metrics?: Metrics | undefined;
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
  readonly #fills = bulkhead(FILLS, Number.POSITIVE_INFINITY);
  /** When each of these users was last known to have unfollowed somebody, by the monotonic clock. */
  readonly #unfollowed = new Map<number, number>();
  #gatewayId: string;
  #roster: Roster;
  #consumer: Consumer | undefined;
  /** The same for the queue before a move and the one after it. */
  readonly #take = inBatches((deliveries) => this.#handle(deliveries));
  #consumed = false;
  /** Told when the queue is no longer consumed, and when it is again: what came meanwhile may be lost. */
  onConsumed: ((consumed: boolean) => void) | undefined;
  #sockets = 0;
  #pushed = 0;
  /** Cursors' marks do not pass this id. */
  #hold = Number.POSITIVE_INFINITY;

  constructor(context: HubContext, gatewayId: string) {
    this.#context = context;
    this.#gatewayId = gatewayId;
    this.#roster = this.#newRoster();
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
    return this.#pushed;
  }

  /** Users who are announced as online; undefined while that changes. */
  get announced(): number | undefined {
    return this.#roster.size;
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

  #newRoster(): Roster {
    return new Roster(this.#context.db, this.#gatewayId, (userId) => this.#online.has(userId));
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
    const [consumer, roster] = [this.#consumer, this.#roster];
    this.#gatewayId = gatewayId;
    this.#roster = this.#newRoster();
    await roster.close();
    await this.start();
    await consumer?.stop(0);
  }

  /** Announces everyone who is not, or no longer. */
  async announce(): Promise<void> {
    await this.#roster.update(this.#online.keys());
  }

  /** From now on cursors reach back to what came before this moment; `undefined`: they need not. */
  hold(sinceMs: number | undefined): void {
    this.#hold = sinceMs === undefined ? Number.POSITIVE_INFINITY : firstIdAt(sinceMs - REORDER_MS);
  }

  /** `after`: the client goes on where it was. Nothing comes before `connect`. */
  open(socket: LiveSocket, userId: number, after?: Cursor): Session {
    // A post that was made just before may come after: clocks differ, and so do the ways of posts.
    const session = new Session(socket, userId, after ?? this.#newestCursor(), after !== undefined);
    this.#online.set(userId, [...(this.#online.get(userId) ?? []), session]);
    this.#sockets += 1;
    session.behind = session.resumes;
    return session;
  }

  /** Resolves when every post committed from now on will reach this session, and what it has missed has. */
  async connect(session: Session): Promise<void> {
    try {
      await this.#roster.update([session.userId]);
      session.announced = true;
      await this.#bringUp(session);
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
    // What cannot be said now is said with the next heartbeat.
    this.#roster.update([session.userId]).catch(() => {});
  }

  /** What could not be announced is tried again. */
  retryAnnouncing(): Promise<void> {
    return this.#roster.retry();
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
          this.#bringUp(session).catch((error) => {
            if (isPassing(error)) failure ??= error;
            else session.socket.close(CLOSE_CODES.internal, 'the feed could not be read');
          }),
        ),
    );
    if (failure) throw failure;
  }

  /**
   * The user has unfollowed somebody. Resolves when no frame that was checked before is on its way any more: those
   * that were not sent are checked again, those that wait for a slow client are waited for, or the socket is cut.
   */
  async unfollowed(userId: number, withinMs: number): Promise<void> {
    const sessions = this.#online.get(userId);
    if (!sessions) return;
    const now = performance.now();
    for (const [user, at] of this.#unfollowed) {
      if (now - at < FRESH_MS) break;
      this.#unfollowed.delete(user);
    }
    this.#unfollowed.delete(userId);
    this.#unfollowed.set(userId, now);
    await Promise.all(
      sessions.map(async ({ socket }) => {
        if (!(await drained(socket, 0, withinMs))) socket.terminate();
      }),
    );
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

  #newestCursor(): Cursor {
    return { low: firstIdAt(Date.now() - REORDER_MS), ids: [] };
  }

  /** Of a client that will read these posts in its feed. */
  #cursorPast(posts: readonly LiveRecord[]): Cursor {
    const { low } = this.#newestCursor();
    const recent = posts.map(({ postId }) => postId).filter((id) => id > low);
    return { low: recent.at(-1 - REMEMBERED) ?? low, ids: recent.slice(-REMEMBERED) };
  }

  #hello(session: Session, recovered = true): void {
    const { userId, low, ids, from, resumes } = session;
    const hello = { userId, gatewayId: this.#gatewayId, ...((resumes || !recovered) && { recovered }) };
    session.socket.write(helloFrame(hello, { low, ids: ids.slice(from) }));
    session.greeted = true;
  }

  #all(): Session[] {
    return [...this.#online.values()].flat();
  }

  #isOpen(session: Session): boolean {
    return this.#online.get(session.userId)?.includes(session) ?? false;
  }

  /** One run at a time for each session: whoever asks meanwhile has set `behind`, and the run sees that. */
  #bringUp(session: Session): Promise<void> {
    session.running ??= this.#run(session);
    return session.running;
  }

  async #run(session: Session): Promise<void> {
    // Not before `running` is set.
    await undefined;
    try {
      await this.#fill(session);
    } catch (error) {
      // What was not sent is in the feed.
      session.behind = true;
      session.running = undefined;
      throw error;
    }
  }

  /** Says hello, sends what the session has missed and what has come meanwhile; with nothing left it is live. */
  async #fill(session: Session): Promise<void> {
    while (this.#isOpen(session)) {
      if (session.behind) {
        session.behind = false;
        const missed = await this.#fills.execute(() => this.#missed(session));
        const recovered = missed.length <= RESUME_LIMIT;
        if (!recovered) session.reset(this.#cursorPast(missed));
        if (!session.greeted || !recovered) this.#hello(session, recovered);
        if (recovered) await this.#replay(session, missed);
      } else if (!session.greeted) {
        this.#hello(session);
      }
      const pending = session.pending ?? [];
      if (pending.length === 0 && !session.behind) break;
      session.pending = [];
      await this.#replay(session, pending);
    }
    // Both in the turn in which nothing was left: what comes in the next is sent, or begins another run.
    session.pending = undefined;
    session.running = undefined;
  }

  async #replay(session: Session, records: readonly LiveRecord[]): Promise<void> {
    for (let at = 0; at < records.length && this.#isOpen(session); at += REPLAYED_TOGETHER) {
      if (!(await drained(session.socket, REPLAY_BUFFERED_BYTES, REPLAY_WAIT_MS))) {
        session.socket.close(CLOSE_CODES.tooSlow, 'too slow');
        return;
      }
      await this.#push(records.slice(at, at + REPLAYED_TOGETHER), session);
    }
  }

  /** What the user's feed has and the session has not got, oldest first; of more than the limit only the newest. */
  async #missed(session: Session): Promise<LiveRecord[]> {
    const { db, cache } = this.#context;
    const { userId, mark } = session;
    const missed: LiveRecord[] = [];
    let cursor: string | null = null;
    do {
      const query: FeedQuery = cursor === null ? { limit: FIRST_PAGE } : { limit: NEXT_PAGES, cursor };
      // A cache that hears of changes by and by may not know yet what was committed before the socket was announced.
      const page: FeedPage = await db.repeat(() => readFeed(db, userId, query, cache?.pages && cache));
      for (const { postId, authorId, source } of page.items) {
        if (postId <= mark) return missed.reverse();
        if (source !== 'own' && !session.has(postId)) missed.push({ userId, authorId, postId });
      }
      cursor = page.nextCursor;
    } while (cursor !== null && missed.length <= RESUME_LIMIT);
    return missed.reverse();
  }

  async #handle(deliveries: readonly Delivery[]): Promise<void> {
    const { metrics } = this.#context;
    const records: LiveRecord[] = [];
    const good: { delivery: Delivery; committedAt: number }[] = [];
    for (const delivery of deliveries) {
      try {
        const { live, committedAt } = decodeLive(delivery.body);
        for (const record of live) records.push(record);
        good.push({ delivery, committedAt });
      } catch (error) {
        giveBack(delivery, error, this.#context);
      }
    }
    try {
      await this.#push(records);
      for (const { delivery, committedAt } of good) {
        delivery.ack();
        metrics?.observe('feedctl_gateway_push_seconds', Math.max(0, Date.now() - committedAt) / 1000);
      }
    } catch (error) {
      for (const { delivery } of good) giveBack(delivery, error, this.#context);
    }
  }

  /** To every session of their users, or to `only` one of them. */
  async #push(records: readonly LiveRecord[], only?: Session): Promise<void> {
    const { db, metrics } = this.#context;
    const single: LiveRecord[] = [];
    const toAll: LiveRecord[] = [];
    const withdrawn: LiveRecord[] = [];
    for (const record of records) {
      if (record.userId === EVERY_FOLLOWER) toAll.push(record);
      else if (record.userId === WITHDRAWN) withdrawn.push(record);
      else if (this.#online.has(record.userId)) single.push(record);
    }
    const frames = new Map<number, Frames>();
    if (toAll.length > 0 && this.#online.size > 0)
      await this.#sendChecked([...this.#online.keys()], frames, undefined, (users) =>
        postsForFollowers(db, toAll, users),
      );
    single.sort((a, b) => a.postId - b.postId);
    await this.#sendChecked(single, frames, only, (part) => postsForUsers(db, part));
    if (withdrawn.length > 0 && this.#online.size > 0) await this.#withdraw(withdrawn);
    // Not before: what could not be checked is tried again, and counted then.
    if (!only) {
      const missed = records.length - toAll.length - withdrawn.length - single.length;
      metrics?.count('feedctl_gateway_addressed_total', single.length, { listening: 'yes' });
      metrics?.count('feedctl_gateway_addressed_total', missed, { listening: 'no' });
    }
  }

  /**
   * What every socket may see is decided here and now: follows and deletions as they are, not as they were. `check`
   * asks for some of `wanted`; what it found is sent at once, or asked again.
   */
  async #sendChecked<T>(
    wanted: readonly T[],
    frames: Map<number, Frames>,
    only: Session | undefined,
    check: (part: readonly T[]) => Promise<AddressedPost[]>,
  ): Promise<void> {
    if (wanted.length === 0) return;
    let together = CHECKED_TOGETHER;
    let slow = 0;
    const begin = (at: number) => {
      const part = wanted.slice(at, at + together);
      return { end: at + part.length, checkedAt: performance.now(), posts: check(part) };
    };
    for (let at = 0, now = begin(0); ; ) {
      const posts = await now.posts;
      posts.sort((a, b) => a.post.id - b.post.id);
      // The database looks at the next ones while these are sent: the turn is for the question to go out.
      const next = now.end < wanted.length ? begin(now.end) : undefined;
      if (next) {
        next.posts.catch(() => {});
        await nextTurn();
      }
      if (this.#send(posts, now.checkedAt, frames, only)) {
        if (!next) return;
        at = now.end;
        now = next;
        slow = 0;
        continue;
      }
      // Whoever has got it is not sent it again.
      together = Math.max(FEWEST_CHECKED, together >> 1);
      slow += 1;
      if (slow === SLOW_CHECKS)
        throw new FeedctlError('TIMED_OUT', `follows could not be checked within ${FRESH_MS} ms`);
      now = begin(at);
    }
  }

  /** Returns false where some were not sent, as the check had become too old for them. */
  #send(
    posts: readonly AddressedPost[],
    checkedAt: number,
    frames: Map<number, Frames>,
    only: Session | undefined,
  ): boolean {
    let all = true;
    for (const { userId, post } of posts) {
      const unfollowedAt = this.#unfollowed.get(userId);
      if (unfollowedAt !== undefined && unfollowedAt >= checkedAt) {
        all = false;
        continue;
      }
      for (const session of only ? [only] : (this.#online.get(userId) ?? [])) {
        if (session.has(post.id)) continue;
        if (session !== only && session.pending) {
          this.#keep(session, { userId, authorId: post.authorId, postId: post.id });
          continue;
        }
        let shared = frames.get(post.id);
        if (!shared) {
          shared = postFrames(post);
          frames.set(post.id, shared);
        }
        // The last look at the clock before the bytes go.
        const now = performance.now();
        if (now - checkedAt > FRESH_MS) return false;
        session.add(post.id, this.#hold);
        session.socket.write(shared.for(session));
        session.delivered += 1;
        session.deliveredAt = now;
        this.#pushed += 1;
      }
    }
    return all;
  }

  #keep(session: Session, record: LiveRecord): void {
    if (session.pending!.length < MOST_PENDING) session.pending!.push(record);
    else session.behind = true;
  }

  /** Every follower who is online is told, and whoever is known to have got the post. */
  async #withdraw(records: readonly LiveRecord[]): Promise<void> {
    const authors = [...new Set(records.map((record) => record.authorId))];
    const followers = await followersAmong(this.#context.db, authors, [...this.#online.keys()]);
    const byAuthor = Map.groupBy(followers, ({ authorId }) => authorId);
    for (const { postId, authorId } of records) {
      const told = new Set(byAuthor.get(authorId)?.map(({ userId }) => userId));
      const frames = deletedFrames({ postId, authorId });
      for (const [userId, sessions] of this.#online) {
        for (const session of sessions) {
          if (!told.has(userId) && !session.knows(postId)) continue;
          // A replay that read the feed before the deletion does not send it any more.
          if (!session.has(postId)) session.add(postId, session.pending ? session.mark : this.#hold);
          if (session.greeted) session.socket.write(frames.for(session));
        }
      }
    }
  }
}

/** Opens the hub of a gateway, whose queue is there from then on. */
export async function openHub(context: HubContext & { gatewayId: string }): Promise<Hub> {
  const hub = new Hub(context, context.gatewayId);
  await hub.start();
  return hub;
}

const LOOK_EVERY_MS = 10;

/** Waits until no more than so many bytes wait for the client. Returns false where they still do. */
async function drained(socket: LiveSocket, bytes: number, withinMs: number): Promise<boolean> {
  for (const until = performance.now() + withinMs; socket.bufferedBytes > bytes; await sleep(LOOK_EVERY_MS))
    if (performance.now() > until) return false;
  return true;
}
