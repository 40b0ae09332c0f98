import { bulkhead } from 'cockatiel';
import type { FeedCache } from '../cache/cache.ts';
import type { Database } from '../database/database.ts';
import { type FeedPage, type FeedQuery, readFeed } from '../feed/read/read.ts';
import { FEED_LIMIT } from '../model/feed.ts';
import { firstIdAt, isAhead } from '../model/ids.ts';
import type { LiveRecord } from '../model/messages.ts';
import { type Cursor, REMEMBERED, REORDER_MS } from './cursor.ts';
import { helloFrame } from './frames.ts';
import { CLOSE_CODES, drained, type Session } from './session.ts';

/** A client that was away for longer than so many posts reads its feed instead. */
const RESUME_LIMIT = FEED_LIMIT;
/** Feeds that are read at a time to find what a socket has missed. */
const FILLS = 8;
const FIRST_PAGE = 50;
const NEXT_PAGES = 500;
/** Replayed posts are sent in parts, each when the client has taken most of the part before. */
const REPLAYED_TOGETHER = 100;
const REPLAY_BUFFERED_BYTES = 64 * 1024;
const REPLAY_WAIT_MS = 10_000;

interface Context {
  readonly db: Database;
  readonly cache?: FeedCache | undefined;
}

/** What is asked of the hub that the sessions belong to. */
interface Sessions {
  gatewayId(): string;
  isOpen(session: Session): boolean;
  send(records: readonly LiveRecord[], session: Session): Promise<void>;
}

/** Sockets that were opened in the same second have equal cursors, and share the frames of a post. */
const ROUND_MS = 1_000;

/** Of a client that begins now. */
export function newestCursor(): Cursor {
  const sinceMs = Date.now() - REORDER_MS;
  return { low: firstIdAt(sinceMs - (sinceMs % ROUND_MS)), ids: [] };
}

/** Of a client that will read these posts in its feed. */
function cursorPast(posts: readonly LiveRecord[]): Cursor {
  const { low } = newestCursor();
  const recent = posts.map(({ postId }) => postId).filter((id) => id > low);
  return { low: recent.at(-1 - REMEMBERED) ?? low, ids: recent.slice(-REMEMBERED) };
}

/** Brings sessions up to date: what their feeds have and they have not got, then what came meanwhile. */
export class CatchUp {
  readonly #context: Context;
  readonly #hub: Sessions;
  readonly #fills = bulkhead(FILLS, Number.POSITIVE_INFINITY);

  constructor(context: Context, hub: Sessions) {
    this.#context = context;
    this.#hub = hub;
  }

  /** One run at a time for each session: whoever asks meanwhile has set `behind`, and the run sees that. */
  bringUp(session: Session): Promise<void> {
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
    while (this.#hub.isOpen(session)) {
      if (session.behind) {
        session.behind = false;
        const missed = await this.#fills.execute(() => this.#missed(session));
        const recovered = missed.length <= RESUME_LIMIT;
        if (!recovered) session.reset(cursorPast(missed));
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
    for (let at = 0; at < records.length && this.#hub.isOpen(session); at += REPLAYED_TOGETHER) {
      if (!(await drained(session.socket, REPLAY_BUFFERED_BYTES, REPLAY_WAIT_MS))) {
        session.socket.close(CLOSE_CODES.tooSlow, 'too slow');
        return;
      }
      await this.#hub.send(records.slice(at, at + REPLAYED_TOGETHER), session);
    }
  }

  /** What the user's feed has and the session has not got, oldest first; of more than the limit only the newest. */
  async #missed(session: Session): Promise<LiveRecord[]> {
    const { db, cache } = this.#context;
    const { userId, watermark: mark } = session;
    const missed: LiveRecord[] = [];
    let cursor: string | null = null;
    do {
      const query: FeedQuery = cursor === null ? { limit: FIRST_PAGE } : { limit: NEXT_PAGES, cursor };
      // A cache that hears of changes by and by may not know yet what was committed before the socket was announced.
      const page: FeedPage = await db.retry(() => readFeed(db, userId, query, cache?.pages && cache));
      for (const { postId, authorId, source } of page.items) {
        if (postId <= mark) return missed.reverse();
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
