import { type Bus, type QueueDepth, STAGES } from '../../bus/bus.ts';
import type { FeedCache } from '../../cache/cache.ts';
import type { Database } from '../../database/database.ts';
import { counted } from '../../model/counted.ts';
import { isFeedctlError } from '../../model/errors.ts';
import { MAX_ID } from '../../model/ids.ts';
import { type LaneName, laneTroubles } from '../../model/lanes.ts';
import { decodeEvents, packIds } from '../../model/messages.ts';
import { hasRow } from '../../model/rowsMessage.ts';
import { deadLettersHolding } from '../../store/deadLetters.ts';
import { readLanes } from '../../store/lanes.ts';
import { getUser, type User } from '../../store/users.ts';
import { tenths } from '../../util/numbers.ts';
import { poll } from '../../util/poll.ts';
import {
  followedSince,
  hasFeedRow,
  isFollower,
  lastEventAbout,
  onlineAt,
  readState,
  type TracedPost,
  tracedPost,
  undispatchedBefore,
} from './sql.ts';

/** Lanes whose pause delays each stage of the bus. */
const LANES_OF_STAGE: readonly (readonly LaneName[])[] = [['live'], ['bulk'], ['live', 'bulk']];
/** Maximum wait for the messages in the queues. After that the post counts as pending. */
const WAIT_MS = 1_500;
const POLL_MS = 50;
/** Rows are committed a moment before caches hear of them. */
const CACHE_TIMEOUT_MS = 1_000;
const CACHE_POLL_MS = 250;

/**
 *     own            the reader's own post: read from the posts themselves
 *     present        its row is in the feed
 *     celebrity      merged when the feed is read
 *     below-floor    at or below the feed's floor: read from the posts themselves
 *     pending        on its way
 *     not-following  the reader does not follow the author
 *     deleted        the post was deleted
 *     dead-lettered  a message that carried it was dead-lettered
 *     missing        should be in the feed, and no message will bring it
 */
export type Verdict =
  | 'own'
  | 'present'
  | 'celebrity'
  | 'below-floor'
  | 'pending'
  | 'not-following'
  | 'deleted'
  | 'dead-lettered'
  | 'missing';

/** `unknown`: not recorded. `none`: the post skips this step. */
type StepState = 'done' | 'waiting' | 'unknown' | 'none';

export interface WayStep {
  readonly step: 'created' | 'dispatched' | 'planned' | 'written' | 'cached' | 'pushed';
  readonly state: StepState;
  /** Null if the time is not recorded or the step has not happened. */
  readonly at: Date | null;
  readonly detail: string;
}

export interface Explanation {
  readonly userId: number;
  readonly postId: number;
  readonly authorId: number;
  readonly verdict: Verdict;
  readonly reason: string;
  /** Readers of the feed see the post now. */
  readonly shown: boolean;
  /** False if readers should see the post and will not without a repair. */
  readonly ok: boolean;
  readonly following: boolean;
  /** Time of the follow or the unfollow. Null if it is older than the event log. */
  readonly since: Date | null;
  readonly steps: readonly WayStep[];
  /**
   * Maximum number of messages ahead of a pending post, and its expected delay. Null if no estimate
   * is possible.
   */
  readonly pending: { readonly behind: number; readonly etaSeconds: number | null } | null;
  /** The command that repairs it. */
  readonly mend: string | null;
}

interface Context {
  readonly db: Database;
  readonly bus: Bus;
  readonly sharedCache?: FeedCache | undefined;
}

type Event = Awaited<ReturnType<typeof lastEventAbout>>;

interface Found {
  readonly user: User;
  readonly post: TracedPost;
  readonly event: Event;
  readonly since: Date | undefined;
  readonly online: number;
}

type Outcome = Pick<Explanation, 'verdict' | 'reason'> &
  Partial<Pick<Explanation, 'pending' | 'mend' | 'shown' | 'ok' | 'since'>> & {
    /** States of the steps after the outbox. */
    readonly way?: Partial<Record<'planned' | 'written' | 'cached' | 'pushed', [StepState, string]>>;
  };

export interface ExplainOptions {
  readonly waitMs?: number;
  readonly signal?: AbortSignal;
}

/**
 * Explains why a post is in a feed, or is not. For a missing row it waits up to `waitMs` for the
 * messages that are in the queues. Throws USER_NOT_FOUND, POST_NOT_FOUND, and errors of the bus.
 */
export async function explain(
  context: Context,
  userId: number,
  postId: number,
  options: ExplainOptions = {},
): Promise<Explanation> {
  const { db } = context;
  // In this order: without both, the error always names the user.
  const user = await getUser(db, userId);
  const post = await tracedPost(db, postId);
  const { authorId } = post;
  const [event, since, online] = await Promise.all([
    lastEventAbout(db, { aggregateId: authorId, subjectId: postId, type: 'post.created' }),
    followedSince(db, userId, authorId),
    onlineAt(db, userId),
  ]);
  const found = { user, post, event, since, online };
  const outcome = await judge(context, found, options);
  const { verdict, reason, pending = null, mend = null } = outcome;
  return {
    userId,
    postId,
    authorId,
    verdict,
    reason,
    shown: outcome.shown ?? ['own', 'present', 'celebrity', 'below-floor'].includes(verdict),
    ok: verdict !== 'missing' && verdict !== 'dead-lettered',
    following: since !== undefined,
    since: since ?? outcome.since ?? null,
    steps: stepsOf(found, outcome),
    pending,
    mend,
  };
}

async function judge(context: Context, found: Found, options: ExplainOptions): Promise<Outcome> {
  const { db } = context;
  const { user, post, since } = found;
  if (post.deletedAt)
    return {
      verdict: 'deleted',
      reason: `deleted at ${post.deletedAt.toISOString()}; readers do not see it`,
      way: notOnItsWay('deleted'),
    };
  if (post.authorId === user.id)
    return {
      verdict: 'own',
      reason:
        'a user’s own posts are read from the posts themselves, and are not pushed to their own sockets',
      way: notOnItsWay('own'),
    };
  if (!since) {
    const unfollow = await lastEventAbout(db, {
      aggregateId: user.id,
      subjectId: post.authorId,
      type: 'follow.deleted',
    });
    return {
      verdict: 'not-following',
      reason: unfollow
        ? `user ${user.id} has not followed ${post.authorId} since ${unfollow.occurredAt.toISOString()}`
        : `user ${user.id} does not follow ${post.authorId}, and the event log has no unfollow`,
      ...(unfollow && { since: unfollow.occurredAt }),
      way: notOnItsWay('not followed'),
    };
  }
  const state = await readState(db, post.authorId);
  if (state !== 'push')
    return {
      verdict: 'celebrity',
      reason: `the posts of ${post.authorId} (${state}) are merged when the feed is read`,
      way: { ...notOnItsWay('merged when the feed is read'), pushed: ['unknown', ''] },
    };
  if (post.id <= user.feedFloor)
    return {
      verdict: 'below-floor',
      reason:
        user.feedFloor === MAX_ID
          ? 'the feed is not materialized: it is read from the posts themselves'
          : `at or below the floor ${user.feedFloor}: read from the posts themselves`,
      way: { ...notOnItsWay('below the floor'), pushed: ['unknown', ''] },
    };
  if (await hasFeedRow(db, user.id, post.id)) return presentOrUncached(context, user, post);
  return absent(context, found, options);
}

const notOnItsWay = (why: string): NonNullable<Outcome['way']> => ({
  planned: ['none', why],
  written: ['none', why],
  cached: ['none', why],
  pushed: ['none', why],
});

const repair = (userId: number): string => `feedctl feed verify ${userId} --repair`;

async function presentOrUncached({ sharedCache }: Context, user: User, post: TracedPost): Promise<Outcome> {
  const cached = sharedCache?.pages && (await cacheHolds(sharedCache, user.id, post.id));
  const way: NonNullable<Outcome['way']> = {
    planned: ['done', ''],
    written: ['done', ''],
    cached:
      cached === undefined
        ? ['unknown', 'each gateway has its own cache']
        : cached === 'none'
          ? ['none', 'the feed is not cached']
          : cached
            ? ['done', '']
            : ['waiting', 'cached without this post'],
    pushed: ['unknown', ''],
  };
  if (cached !== false) return { verdict: 'present', reason: 'its row is in the feed', way };
  return {
    verdict: 'missing',
    reason: 'its row is in the feed, and the cache holds the feed without it',
    mend: repair(user.id),
    way,
  };
}

/** Returns `none` if the cache does not hold this part of the feed. */
async function cacheHolds(cache: FeedCache, userId: number, postId: number): Promise<boolean | 'none'> {
  const check = async () => {
    let holds: boolean | 'none' = 'none';
    for await (const [, feed] of cache.entries([userId]))
      if (postId > feed.completeAbove) holds = feed.entries.some((entry) => entry.postId === postId);
    return holds;
  };
  return poll(check, { everyMs: CACHE_POLL_MS, timeoutMs: CACHE_TIMEOUT_MS });
}

/** Judges a post that should have a row and has none: pending, dead-lettered or missing. */
async function absent(context: Context, found: Found, options: ExplainOptions): Promise<Outcome> {
  const { db, bus } = context;
  const { user, post } = found;
  const outbox = await pendingInOutbox(db, found);
  if (outbox) return outbox;
  const before = await bus.depths();
  const startedAt = performance.now();
  const stage = await pendingStage(bus, options);
  if (await hasFeedRow(db, user.id, post.id)) return presentOrUncached(context, user, post);
  const letter = await deadLetterOf(context, user, post);
  if (letter) return deadLettered(letter);
  if (stage !== undefined) return pendingInQueue(context, stage, before, performance.now() - startedAt);
  return missing(db, user, post);
}

/** Returns an outcome if the event of the post, or of the follow, waits in the outbox. */
async function pendingInOutbox(db: Database, { user, post, event }: Found): Promise<Outcome | undefined> {
  const follow = await lastEventAbout(db, {
    aggregateId: user.id,
    subjectId: post.authorId,
    type: 'follow.created',
  });
  const waiting = [event, follow].find((one) => one && !one.dispatchedAt);
  if (!waiting) return undefined;
  const behind = await undispatchedBefore(db, waiting.id);
  const what = waiting === event ? 'its event' : `the follow of ${post.authorId}`;
  return {
    verdict: 'pending',
    reason: `${what} waits in the outbox since ${waiting.occurredAt.toISOString()}`,
    pending: { behind, etaSeconds: null },
    way: { planned: ['waiting', ''], written: ['waiting', ''] },
  };
}

function deadLettered(letter: DeadLetter): Outcome {
  const planned = letter.queue.startsWith('rows.');
  const diedAt = letter.diedAt.toISOString();
  return {
    verdict: 'dead-lettered',
    reason: `a message of ${letter.queue} was dead-lettered at ${diedAt}: ${letter.reason}`,
    mend: `feedctl dlq replay ${letter.id}`,
    way: {
      planned: planned ? ['done', ''] : ['waiting', 'dead-lettered'],
      written: ['waiting', planned ? 'dead-lettered' : ''],
    },
  };
}

/** `before`: depths of the queues `ms` milliseconds earlier. */
async function pendingInQueue(
  { db, bus }: Context,
  stage: number,
  before: readonly QueueDepth[],
  ms: number,
): Promise<Outcome> {
  const queues: readonly string[] = STAGES.slice(stage).flat();
  const depth = (depths: readonly QueueDepth[]) =>
    depths.reduce((sum, one) => sum + (queues.includes(one.queue) ? one.ready + one.unacked : 0), 0);
  const behind = depth(await bus.depths());
  const perSecond = (depth(before) - behind) / (ms / 1_000);
  const etaSeconds = perSecond > 0 ? tenths(behind / perSecond) : null;
  const paused = laneTroubles(await readLanes(db)).find(
    ({ lane, kind }) => kind === 'PAUSED' && LANES_OF_STAGE[stage]!.includes(lane),
  );
  const obstacle = paused
    ? `; the ${paused.lane} lane is PAUSED ${paused.detail} (\`${paused.fix}\`)`
    : perSecond > 0
      ? ''
      : '; the queues do not get shorter (`feedctl worker list`)';
  return {
    verdict: 'pending',
    reason:
      `on its way behind at most ${counted(behind, 'message')} ` +
      `in ${STAGES[stage]!.join(' and ')}${obstacle}`,
    pending: { behind, etaSeconds },
    way: { planned: ['unknown', ''], written: ['waiting', ''] },
  };
}

async function missing(db: Database, user: User, post: TracedPost): Promise<Outcome> {
  const mirrored = await isFollower(db, user.id, post.authorId);
  return {
    verdict: 'missing',
    reason: mirrored
      ? 'everything that was in the queues has been written, and its row is not there'
      : `fan-out does not know that ${user.id} follows ${post.authorId}: followers lacks the pair`,
    mend: repair(user.id),
    way: { planned: ['unknown', ''], written: ['waiting', 'lost'] },
  };
}

/**
 * Returns the first stage that still holds messages from before this call. Returns undefined if all
 * pass in time.
 */
async function pendingStage(
  bus: Bus,
  { waitMs = WAIT_MS, signal }: ExplainOptions,
): Promise<number | undefined> {
  const startedAt = performance.now();
  for (const [stage, queues] of STAGES.entries()) {
    const barrier = await bus.placeBarrier(queues);
    const timeoutMs = Math.max(0, waitMs - (performance.now() - startedAt));
    if (!(await poll(() => bus.hasPassed(barrier), { everyMs: POLL_MS, timeoutMs, signal }))) return stage;
  }
  return undefined;
}

type DeadLetter = Awaited<ReturnType<typeof deadLettersHolding>>[number];

/** Decodes only messages that contain the eight bytes of the ids. */
async function deadLetterOf(
  { db, bus }: { db: Database; bus: Bus },
  user: User,
  post: TracedPost,
): Promise<Awaited<ReturnType<typeof deadLettersHolding>>[number] | undefined> {
  await bus.collectDeadLetters?.();
  for (const ids of [[post.id], [user.id, post.authorId]]) {
    for (const letter of await deadLettersHolding(db, packIds(ids))) {
      try {
        if (letter.queue.startsWith('rows.') && hasRow(letter.body, user.id, post.id)) return letter;
        if (letter.queue.startsWith('events') && concerns(letter.body, user, post)) return letter;
      } catch (error) {
        // A message that was dead-lettered because it is damaged names no post.
        if (!isFeedctlError(error, 'BUS_MESSAGE_INVALID')) throw error;
      }
    }
  }
  return undefined;
}

/**
 * Returns whether a message holds the event of the post, or of the follow that would have copied
 * it.
 */
const concerns = (body: Buffer, user: User, post: TracedPost): boolean =>
  decodeEvents(body).events.some(
    ({ type, aggregateId, subjectId }) =>
      (type === 'post.created' && subjectId === post.id) ||
      (type === 'follow.created' && aggregateId === user.id && subjectId === post.authorId),
  );

const NOT_RECORDED = 'not recorded';

function stepsOf({ post, event, online }: Found, { way = {} }: Outcome): WayStep[] {
  const afterOutbox = (step: 'planned' | 'written' | 'cached' | 'pushed'): WayStep => {
    const [state, detail] = way[step] ?? ['waiting', ''];
    const untimed = state === 'done' || state === 'unknown' ? NOT_RECORDED : '';
    const about =
      step === 'pushed' && state === 'unknown' ? `now online at ${counted(online, 'gateway')}` : detail;
    return { step, state, at: null, detail: [untimed, about].filter(Boolean).join('; ') };
  };
  const dispatched = event?.dispatchedAt ?? null;
  return [
    { step: 'created', state: 'done', at: post.createdAt, detail: '' },
    {
      step: 'dispatched',
      state: dispatched ? 'done' : event ? 'waiting' : 'unknown',
      at: dispatched,
      detail: event ? '' : 'the event log does not reach back that far',
    },
    afterOutbox('planned'),
    afterOutbox('written'),
    afterOutbox('cached'),
    afterOutbox('pushed'),
  ];
}
