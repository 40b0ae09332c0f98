import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Database } from '../database/database.ts';
import { FeedctlError } from '../model/errors.ts';
import { EDITED, EVERY_FOLLOWER, type LiveRecord, RETRACTED } from '../model/messages.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { deletedFrames, editedFrames, type Frames, postFrames } from './frames.ts';
import { SentVersions } from './sentVersions.ts';
import { drained, type Session } from './session.ts';
import { type AddressedPost, followersAmong, postsForFollowers, postsForUsers } from './sql.ts';

/**
 * Maximum age, by the monotonic clock, of the check of follows that a frame is sent on. An unfollow
 * that this gateway has not confirmed is answered after 500 ms (`unfollows.ts`), so no frame
 * follows that answer. A process that was suspended in between checks again.
 */
const FRESH_MS = 400;
/** Frames of one check: these are sent in a fraction of `FRESH_MS`. */
const MAX_CHECKED = 4_000;
const MIN_CHECKED = 50;
/** After so many slow checks in a row the message is retried later. */
const MAX_SLOW_CHECKS = 8;
/** Maximum posts that wait while a session catches up. Past this it reads its feed again. */
const MAX_PENDING = 1_000;

interface Context {
  readonly db: Database;
  readonly metrics?: Metrics | undefined;
}

/** The frames of one text of a post. */
interface TextFrames {
  readonly version: number;
  readonly frames: Frames;
  /** Sessions that have got this edit: a check that is repeated does not send it again. */
  readonly edited: Set<Session>;
}

/** Common to everything that one call sends. */
interface Run {
  readonly kind: 'post' | 'edited';
  readonly texts: Map<number, TextFrames>;
  readonly only: Session | undefined;
  readonly pushed: Map<number, number> | undefined;
}

/** Sends each post once to every session that may see it, and then its edits and its deletion. */
export class Sender {
  readonly #context: Context;
  readonly #online: ReadonlyMap<number, readonly Session[]>;
  /** Checks of these users' follows are valid only if they began later, by the monotonic clock. */
  readonly #invalidatedAt = new Map<number, number>();
  readonly #versions = new SentVersions(FRESH_MS);
  /** Frames sent since the start. */
  sent = 0;
  /** Maximum of the sessions' watermarks. */
  watermarkLimit = Number.POSITIVE_INFINITY;

  constructor(context: Context, online: ReadonlyMap<number, readonly Session[]>) {
    this.#context = context;
    this.#online = online;
  }

  /**
   * Sends posts to every session of their users, or to the session `only`. Frames of the posts in
   * `pushed` are counted there.
   */
  async send(
    records: readonly LiveRecord[],
    { only, pushed }: { only?: Session; pushed?: Map<number, number> | undefined } = {},
  ): Promise<void> {
    const { db, metrics } = this.#context;
    const single: LiveRecord[] = [];
    const toAll: LiveRecord[] = [];
    const edited: LiveRecord[] = [];
    const retracted: LiveRecord[] = [];
    for (const record of records) {
      if (record.userId === EVERY_FOLLOWER) toAll.push(record);
      else if (record.userId === EDITED) edited.push(record);
      else if (record.userId === RETRACTED) retracted.push(record);
      else if (this.#online.has(record.userId)) single.push(record);
    }
    const run: Run = { kind: 'post', texts: new Map(), only, pushed };
    const sendToFollowers = async (posts: readonly LiveRecord[], kind: Run['kind']) => {
      if (posts.length === 0 || this.#online.size === 0) return;
      const texts = new Map<number, TextFrames>();
      await this.#sendChecked([...this.#online.keys()], { ...run, kind, texts, only: undefined }, (users) =>
        postsForFollowers(db, posts, users),
      );
    };
    await sendToFollowers(toAll, 'post');
    single.sort((a, b) => a.postId - b.postId);
    await this.#sendChecked(single, run, (part) => postsForUsers(db, part));
    await sendToFollowers(edited, 'edited');
    if (retracted.length > 0 && this.#online.size > 0) await this.#retract(retracted);
    // Counted last: after a failed check the message is retried, and counted then.
    if (!only) {
      const toFollowers = toAll.length + edited.length + retracted.length;
      const offline = records.length - toFollowers - single.length;
      metrics?.count('feedctl_gateway_addressed_total', single.length, { listening: 'yes' });
      metrics?.count('feedctl_gateway_addressed_total', offline, { listening: 'no' });
    }
  }

  /**
   * Decides which socket may see which post by the follows and deletions of this moment. `check`
   * asks for a part of `wanted`; its answer is sent immediately, or asked for again.
   */
  async #sendChecked<T>(
    wanted: readonly T[],
    run: Run,
    check: (part: readonly T[]) => Promise<AddressedPost[]>,
  ): Promise<void> {
    if (wanted.length === 0) return;
    let size = MAX_CHECKED;
    let slow = 0;
    const begin = (at: number) => {
      const part = wanted.slice(at, at + size);
      return { end: at + part.length, checkedAt: performance.now(), posts: check(part) };
    };
    for (let at = 0, now = begin(0); ; ) {
      const posts = await now.posts;
      posts.sort((a, b) => a.post.id - b.post.id);
      // The database checks the next part while this one is sent. The turn lets the query leave the
      // process.
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
      // Sessions that have got a post are not sent it again.
      size = Math.max(MIN_CHECKED, size >> 1);
      slow += 1;
      if (slow === MAX_SLOW_CHECKS)
        throw new FeedctlError('TIMED_OUT', `follows could not be checked within ${FRESH_MS} ms`);
      now = begin(at);
    }
  }

  /** Returns false if some frames were not sent because the check had become too old. */
  #write(posts: readonly AddressedPost[], checkedAt: number, { kind, texts, only, pushed }: Run): boolean {
    let all = true;
    for (const { userId, post } of posts) {
      const sessions = only ? [only] : this.#online.get(userId);
      if (!sessions) continue;
      const invalidatedAt = this.#invalidatedAt.get(userId);
      if (invalidatedAt !== undefined && invalidatedAt >= checkedAt) {
        all = false;
        continue;
      }
      if (this.#versions.hasNewerThan(post, performance.now())) {
        all = false;
        continue;
      }
      for (const session of sessions) {
        // A session before its hello reads the text later, with its missed posts or over HTTP.
        if (kind === 'edited' ? !session.greeted : session.has(post.id)) continue;
        if (kind === 'post' && session !== only && session.pending) {
          this.#keep(session, { userId, authorId: post.authorId, postId: post.id });
          continue;
        }
        let text = texts.get(post.id);
        if (text?.version !== post.version) {
          const frames = kind === 'edited' ? editedFrames(post) : postFrames(post);
          text = { version: post.version, frames, edited: new Set() };
          texts.set(post.id, text);
          this.#versions.add(post, performance.now());
        }
        if (text.edited.has(session)) continue;
        // Read last, immediately before the bytes are sent.
        const now = performance.now();
        if (now - checkedAt > FRESH_MS) return false;
        if (kind === 'edited') {
          text.edited.add(session);
          session.socket.write(text.frames.for(session));
          continue;
        }
        session.add(post.id, this.watermarkLimit);
        session.socket.write(text.frames.for(session));
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

  /** Sends the deletion to every online follower, and to sessions that remember the post. */
  async #retract(records: readonly LiveRecord[]): Promise<void> {
    const authors = [...new Set(records.map((record) => record.authorId))];
    const followers = await followersAmong(this.#context.db, authors, [...this.#online.keys()]);
    const byAuthor = Map.groupBy(followers, ({ authorId }) => authorId);
    for (const { postId, authorId } of records) {
      const recipients = new Set(byAuthor.get(authorId)?.map(({ userId }) => userId));
      const frames = deletedFrames({ postId, authorId });
      for (const [userId, sessions] of this.#online) {
        for (const session of sessions) {
          if (!recipients.has(userId) && !session.knows(postId)) continue;
          // A replay that read the feed before the deletion does not send the post any more.
          if (!session.has(postId))
            session.add(postId, session.pending ? session.watermark : this.watermarkLimit);
          if (session.greeted) session.socket.write(frames.for(session));
        }
      }
    }
  }

  /**
   * Invalidates running checks of the user's follows. Called when the last socket of the user
   * closes, too: unfollows of an offline user are not confirmed with this gateway, and an old check
   * may still run when the user reconnects.
   */
  invalidate(userId: number): void {
    const now = performance.now();
    for (const [user, at] of this.#invalidatedAt) {
      if (now - at < FRESH_MS) break;
      this.#invalidatedAt.delete(user);
    }
    this.#invalidatedAt.delete(userId);
    this.#invalidatedAt.set(userId, now);
  }

  /**
   * Handles an unfollow by the user. Resolves when no frame of an older check is in flight: unsent
   * frames are checked again. Frames that are buffered for a slow client may drain for `timeoutMs`,
   * then the socket is terminated.
   */
  async unfollowed(userId: number, timeoutMs: number): Promise<void> {
    this.invalidate(userId);
    await Promise.all(
      (this.#online.get(userId) ?? []).map(async ({ socket }) => {
        if (!(await drained(socket, 0, timeoutMs))) socket.terminate();
      }),
    );
  }
}
