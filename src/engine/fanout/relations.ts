import { type Bus, type BusMark, type Consumer, type Delivery, STEPS } from '../bus/bus.ts';
import { giveBack } from '../bus/giveBack.ts';
import type { FeedChanges } from '../cache/changes.ts';
import { alignPair } from '../feed/alignPair.ts';
import type { Notifier } from '../live/notifier.ts';
import { FeedctlError } from '../model/errors.ts';
import { FEED_LIMIT, type FeedEntry } from '../model/feed.ts';
import { decodeCleanup, encodeCleanup } from '../model/messages.ts';
import { fillsEnded } from '../store/celebrities.ts';
import type { Database } from '../store/database.ts';
import { removePairItems, removePostItems } from '../store/feeds.ts';
import { type Pair, postsSinceFollow, withPairLock } from '../store/follows.ts';
import { findPost } from '../store/posts.ts';
import type { Log } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';

export interface RelationContext {
  readonly db: Database;
  readonly bus: Bus;
  readonly changes: FeedChanges;
  readonly log: Log;
  readonly metrics?: Metrics | undefined;
}

/** What a follow or a deletion needs more than its cleanup does: word to sockets. */
export interface LiveContext extends RelationContext {
  readonly notifier: Notifier;
}

/** Rows that plans made earlier may still write, and what is to be removed after them. */
interface Cleanup {
  readonly what: { pair: Pair } | { post: { authorId: number; postId: number } };
  readonly mark: BusMark;
  /** The step of the bus that the mark is in. */
  readonly step: number;
}

const PREFETCH = 50;
const LOOK_AGAIN_MS = 250;

/** A follow or an unfollow: the feed and `followers` follow it, then the sockets. */
async function followChanged(context: LiveContext, pair: Pair): Promise<void> {
  const follows = await alignPair(context, pair);
  if (!follows) {
    await cleanUpLater(context, { pair });
    return;
  }
  // Posts made since the follow may have been planned without it: the backfill has put them into the feed, and
  // no writer will tell the sockets. Those that had a writer are sent once all the same, a socket knows what it got.
  const posts = await postsSinceFollow(context.db, pair, FEED_LIMIT);
  await context.notifier.toUser(pair.followerId, posts, { run: 0, committedAt: Date.now() });
}

async function postDeleted(context: LiveContext, post: FeedEntry): Promise<void> {
  await context.changes.deleted(post);
  await context.notifier.withdrawn(post, { run: 0, committedAt: Date.now() });
  await removePostItems(context.db, post);
  await cleanUpLater(context, { post });
}

async function postUpdated(context: RelationContext, post: FeedEntry): Promise<void> {
  await context.changes.edited(post, () => findPost(context.db, post));
}

/** What the planner does with events that are no new posts. */
export interface RelationHandlers {
  followChanged(context: LiveContext, pair: Pair): Promise<void>;
  postDeleted(context: LiveContext, post: FeedEntry): Promise<void>;
  postUpdated(context: RelationContext, post: FeedEntry): Promise<void>;
}

export const relationHandlers: RelationHandlers = { followChanged, postDeleted, postUpdated };

async function cleanUpLater(context: RelationContext, what: Cleanup['what']): Promise<void> {
  const mark = await context.bus.mark(STEPS[0]!);
  await publishCleanup(context.bus, { what, mark, step: 0 });
}

async function publishCleanup(bus: Bus, cleanup: Cleanup): Promise<void> {
  await bus.publish([{ queue: 'cleanup', body: encodeCleanup(cleanup) }]);
}

/**
 * Removes rows that were written by plans older than an unfollow or a deletion. First every step of
 * the bus has to be past what was in it, then every rebuild and backfill committed that had begun.
 */
export async function startCleaner(context: RelationContext): Promise<Consumer> {
  const handle = async (delivery: Delivery) => {
    try {
      const { what, mark, step } = readCleanup(delivery.body);
      if (!(await context.bus.hasPassed(mark))) {
        delivery.retry(LOOK_AGAIN_MS, { counts: false });
        return;
      }
      const next = STEPS[step + 1];
      if (next) {
        await publishCleanup(context.bus, { what, mark: await context.bus.mark(next), step: step + 1 });
        delivery.ack();
        return;
      }
      await fillsEnded(context.db);
      if ('pair' in what) {
        await context.db.withSession((session) =>
          withPairLock(session, what.pair, () => removePairItems(session, what.pair)),
        );
      } else {
        await removePostItems(context.db, what.post);
      }
      delivery.ack();
    } catch (error) {
      giveBack(delivery, error, context);
    }
  };
  let work = Promise.resolve();
  return context.bus.consume({ queues: ['cleanup'], prefetch: PREFETCH }, (deliveries) => {
    work = work.then(async () => {
      for (const delivery of deliveries) await handle(delivery);
    });
  });
}

const hasIds = (value: unknown, names: readonly string[]): boolean =>
  typeof value === 'object' &&
  value !== null &&
  names.every((name) => {
    const id = (value as Record<string, unknown>)[name];
    return Number.isSafeInteger(id) && (id as number) > 0;
  });

/** Throws BUS_MESSAGE_INVALID. What a mark holds besides its queues is the bus's own business. */
export function readCleanup(body: Buffer): Cleanup {
  const cleanup = decodeCleanup(body) as {
    what?: Record<string, unknown>;
    mark?: { queues?: unknown };
    step?: unknown;
  } | null;
  const known =
    hasIds(cleanup?.what?.pair, ['followerId', 'followeeId']) ||
    hasIds(cleanup?.what?.post, ['authorId', 'postId']);
  if (!known || !Array.isArray(cleanup?.mark?.queues) || !STEPS.some((_, step) => step === cleanup?.step))
    throw new FeedctlError('BUS_MESSAGE_INVALID', 'the message is no cleanup');
  return cleanup as unknown as Cleanup;
}
