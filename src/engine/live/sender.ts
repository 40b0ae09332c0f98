import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Database } from '../database/database.ts';
import { FeedctlError } from '../model/errors.ts';
import { EVERY_FOLLOWER, type LiveRecord, RETRACTED } from '../model/messages.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { deletedFrames, type Frames, postFrames } from './frames.ts';
import { drained, type Session } from './session.ts';
import { type AddressedPost, followersAmong, postsForFollowers, postsForUsers } from './sql.ts';

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
/** Posts that came while a session was being brought up to date: past this it is behind once more. */
const MAX_PENDING = 1_000;

interface Context {
  readonly db: Database;
  readonly metrics?: Metrics | undefined;
}

/** What one call sends has in common. */
interface Run {
  readonly frames: Map<number, Frames>;
  readonly only: Session | undefined;
  readonly pushed: Map<number, number> | undefined;
}

/** Sends posts to the sessions that may see them, each once. */
export class Sender {
  readonly #context: Context;
  readonly #online: ReadonlyMap<number, readonly Session[]>;
  /** Since when a check of what these users follow counts, by the monotonic clock. */
  readonly #doubted = new Map<number, number>();
  /** Frames, since the start. */
  sent = 0;
  /** Sessions' marks do not pass this id. */
  hold = Number.POSITIVE_INFINITY;

  constructor(context: Context, online: ReadonlyMap<number, readonly Session[]>) {
    this.#context = context;
    this.#online = online;
  }

  /**
   * To every session of their users, or to `only` one of them. `pushed`: frames of the posts that are in it already are
   * counted there.
   */
  async send(
    records: readonly LiveRecord[],
    { only, pushed }: { only?: Session; pushed?: Map<number, number> | undefined } = {},
  ): Promise<void> {
    const { db, metrics } = this.#context;
    const single: LiveRecord[] = [];
    const toAll: LiveRecord[] = [];
    const withdrawn: LiveRecord[] = [];
    for (const record of records) {
      if (record.userId === EVERY_FOLLOWER) toAll.push(record);
      else if (record.userId === RETRACTED) withdrawn.push(record);
      else if (this.#online.has(record.userId)) single.push(record);
    }
    const run: Run = { frames: new Map(), only, pushed };
    if (toAll.length > 0 && this.#online.size > 0)
      await this.#sendChecked([...this.#online.keys()], { ...run, only: undefined }, (users) =>
        postsForFollowers(db, toAll, users),
      );
    single.sort((a, b) => a.postId - b.postId);
    await this.#sendChecked(single, run, (part) => postsForUsers(db, part));
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
    run: Run,
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
      if (this.#write(posts, now.checkedAt, run)) {
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
  #write(posts: readonly AddressedPost[], checkedAt: number, { frames, only, pushed }: Run): boolean {
    let all = true;
    for (const { userId, post } of posts) {
      const sessions = only ? [only] : this.#online.get(userId);
      if (!sessions) continue;
      const doubtedAt = this.#doubted.get(userId);
      if (doubtedAt !== undefined && doubtedAt >= checkedAt) {
        all = false;
        continue;
      }
      for (const session of sessions) {
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
        session.add(post.id, this.hold);
        session.socket.write(shared.for(session));
        session.delivered += 1;
        session.deliveredAt = now;
        this.sent += 1;
        const counted = pushed?.get(post.id);
        if (counted !== undefined) pushed!.set(post.id, counted + 1);
      }
    }
    return all;
  }

  #keep(session: Session, record: LiveRecord): void {
    if (session.pending!.length < MAX_PENDING) session.pending!.push(record);
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
          if (!session.has(postId)) session.add(postId, session.pending ? session.watermark : this.hold);
          if (session.greeted) session.socket.write(frames.for(session));
        }
      }
    }
  }

  /**
   * What has been checked of the user counts no more. So it is too when the last of their sockets goes: nobody asks this
   * gateway about an unfollow until they are back, and a check from before it may still be under way then.
   */
  doubt(userId: number): void {
    const now = performance.now();
    for (const [user, at] of this.#doubted) {
      if (now - at < FRESH_MS) break;
      this.#doubted.delete(user);
    }
    this.#doubted.delete(userId);
    this.#doubted.set(userId, now);
  }

  /**
   * The user has unfollowed somebody. Resolves when no frame that was checked before is on its way any more: those
   * that were not sent are checked again, those that wait for a slow client are waited for, or the socket is cut.
   */
  async unfollowed(userId: number, budgetMs: number): Promise<void> {
    this.doubt(userId);
    await Promise.all(
      (this.#online.get(userId) ?? []).map(async ({ socket }) => {
        if (!(await drained(socket, 0, budgetMs))) socket.terminate();
      }),
    );
  }
}
