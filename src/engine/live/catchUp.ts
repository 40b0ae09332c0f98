import { bulkhead } from 'cockatiel';
import type { FeedCache } from '../cache/cache.ts';
import type { Database } from '../database/database.ts';
import { type FeedPage, type FeedQuery, readFeed } from '../feed/read/read.ts';
import { FEED_LIMIT } from '../model/feed.ts';
import { firstIdAt, isAhead } from '../model/ids.ts';
import type { LiveRecord } from '../model/messages.ts';
import type { Clock } from '../store/databaseClock.ts';
import { type Cursor, REMEMBERED, REORDER_MS } from './cursor.ts';
import { helloFrame } from './frames.ts';
import { CLOSE_CODES, drained, type Session } from './session.ts';

/** A client that has missed more posts than this reads its feed instead. */
const RESUME_LIMIT = FEED_LIMIT;
/** Maximum feeds that are read at the same time to find missed posts. */
const CONCURRENCY = 8;
const FIRST_PAGE = 50;
const NEXT_PAGES = 500;
/**
 * Posts of one part of a replay. The next part waits until the client has taken most of this one.
 */
const REPLAY_BATCH = 100;
const REPLAY_BUFFERED_BYTES = 64 * 1024;
const REPLAY_TIMEOUT_MS = 10_000;

interface Context {
  readonly db: Database;
  readonly clock: Clock;
  readonly cache?: FeedCache | undefined;
}

/** The hub of the sessions, as far as this file needs it. */
interface Sessions {
  gatewayId(): string;
  isOpen(session: Session): boolean;
  send(records: readonly LiveRecord[], session: Session): Promise<void>;
}

/**
 * Sockets that were opened in the same second have equal cursors, and share the frames of a post.
 */
const ROUND_MS = 1_000;

/** Returns the cursor of a client that connects now. `now`: unix milliseconds of the database. */
export function newestCursor(now: number): Cursor {
  const sinceMs = now - REORDER_MS;
  return { low: firstIdAt(sinceMs - (sinceMs % ROUND_MS)), ids: [] };
}

/** Returns the cursor of a client that will read these posts in its feed. */
function cursorPast(posts: readonly LiveRecord[], now: number): Cursor {
  const { low } = newestCursor(now);
  const recent = posts.map(({ postId }) => postId).filter((id) => id > low);
  return { low: recent.at(-1 - REMEMBERED) ?? low, ids: recent.slice(-REMEMBERED) };
}

/**
 * Brings sessions up to date: sends the posts of their feeds that they have missed, then those that
 * arrived meanwhile.
 */
export class CatchUp {
  readonly #context: Context;
  readonly #hub: Sessions;
  readonly #reads = bulkhead(CONCURRENCY, Number.POSITIVE_INFINITY);

  constructor(context: Context, hub: Sessions) {
    this.#context = context;
    this.#hub = hub;
  }

  /**
   * Runs once at a time for each session. A caller during a run has set `behind`, and the run sees
   * that.
   */
  catchUp(session: Session): Promise<void> {
    session.running ??= this.#run(session);
    return session.running;
  }

  async #run(session: Session): Promise<void> {
    // `running` must be set before the first step.
    await undefined;
    try {
      await this.#fill(session);
    } catch (error) {
      // The feed has every post that was not sent.
      session.behind = true;
      session.running = undefined;
      throw error;
    }
  }

  /**
   * Sends the hello frame, missed posts and posts that arrived meanwhile. The session is live when
   * none is left.
   */
  async #fill(session: Session): Promise<void> {
    while (this.#hub.isOpen(session)) {
      if (session.behind) {
        session.behind = false;
        const missed = await this.#reads.execute(() => this.#missed(session));
        const recovered = !session.isLost && missed.length <= RESUME_LIMIT;
        session.isLost = false;
        if (!recovered) session.reset(cursorPast(missed, this.#context.clock.now()));
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
    // Both in the turn in which no post was left: a post of the next turn is sent, or begins
    // another run.
    session.pending = undefined;
    session.running = undefined;
  }

  async #replay(session: Session, records: readonly LiveRecord[]): Promise<void> {
    for (let at = 0; at < records.length && this.#hub.isOpen(session); at += REPLAY_BATCH) {
      if (!(await drained(session.socket, REPLAY_BUFFERED_BYTES, REPLAY_TIMEOUT_MS))) {
        session.socket.close(CLOSE_CODES.tooSlow, 'too slow');
        return;
      }
      await this.#hub.send(records.slice(at, at + REPLAY_BATCH), session);
    }
  }

  /**
   * Returns posts of the user's feed that the session has not got, the oldest first. Past the limit
   * only the newest.
   */
  async #missed(session: Session): Promise<LiveRecord[]> {
    const { db, cache } = this.#context;
    const { userId, watermark } = session;
    const missed: LiveRecord[] = [];
    let cursor: string | null = null;
    do {
      const query: FeedQuery = cursor === null ? { limit: FIRST_PAGE } : { limit: NEXT_PAGES, cursor };
      // A cache that is notified of changes later may lack a post that was committed before the
      // announcement.
      const page: FeedPage = await db.retry(() => readFeed(db, userId, query, cache?.pages && cache));
      for (const { postId, authorId, source } of page.items) {
        if (postId <= watermark) return missed.reverse();
        if (source !== 'own' && !isAhead(postId) && !session.has(postId))
          missed.push({ userId, authorId, postId });
      }
      cursor = page.nextCursor;
    } while (cursor !== null && missed.length <= RESUME_LIMIT);
    return missed.reverse();
  }

  #hello(session: Session, recovered = true): void {
    const { userId, cursorWatermark: low, ids, from, resumes } = session;
    const hello = { userId, gatewayId: this.#hub.gatewayId(), ...((resumes || !recovered) && { recovered }) };
    session.socket.write(helloFrame(hello, { low, ids: ids.slice(from) }));
    session.greeted = true;
  }
}
