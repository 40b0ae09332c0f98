import { setTimeout as sleep } from 'node:timers/promises';
import { type Bus, type QueueDepth, STAGES } from '../../bus/bus.ts';
import type { FeedCache } from '../../cache/cache.ts';
import type { Database } from '../../database/database.ts';
import { isFeedctlError } from '../../model/errors.ts';
import { MAX_ID } from '../../model/ids.ts';
import { type LaneName, laneTroubles } from '../../model/lanes.ts';
import { decodeEvents, packIds } from '../../model/messages.ts';
import { hasRow } from '../../model/rowsMessage.ts';
import { deadLettersHolding } from '../../store/deadLetters.ts';
import { readLanes } from '../../store/lanes.ts';
import { getUser, type User } from '../../store/users.ts';
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

/** Whose pause holds up a step of the bus. */
const LANES_OF_STEP: readonly (readonly LaneName[])[] = [['live'], ['bulk'], ['live', 'bulk']];
/** A post that is not here after so long behind what was in the queues is called pending. */
const WAIT_MS = 1_500;
const POLL_MS = 50;
/** Rows are committed a moment before the cache is told. */
const CACHE_LOOKS = 4;
const CACHE_LOOK_MS = 250;

/**
 *     own            the reader's own post: read from the posts themselves
 *     present        its row is in the feed
 *     celebrity      merged when the feed is read
 *     below-floor    at or below the feed's floor: read from the posts themselves
 *     pending        on its way
 *     not-following  the reader does not follow the author
 *     deleted        the post was deleted
 *     dead-lettered  a message that carried it was put aside
 *     missing        it should be there, and nothing is on its way that would bring it
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

/** `unknown`: the system keeps no note of it. `none`: this post does not go that way. */
type StepState = 'done' | 'waiting' | 'unknown' | 'none';

export interface WayStep {
  readonly step: 'created' | 'dispatched' | 'planned' | 'written' | 'cached' | 'pushed';
  readonly state: StepState;
  /** null where the time is not recorded, or there is none. */
  readonly at: Date | null;
  readonly detail: string;
}

export interface Explanation {
  readonly userId: number;
  readonly postId: number;
  readonly authorId: number;
  readonly verdict: Verdict;
  readonly reason: string;
  /** Whether a reader of the feed is shown the post now. */
  readonly shown: boolean;
  /** False where the post should be shown and will not be without help. */
  readonly ok: boolean;
  readonly following: boolean;
  /** Since when the reader follows the author, or since when they do not; null where the log does not go back so far. */
  readonly since: Date | null;
  readonly steps: readonly WayStep[];
  /** Of a post that is pending: at most so many messages are ahead of it, and after so many seconds it should be there; null where that cannot be told. */
  readonly pending: { readonly behind: number; readonly etaSeconds: number | null } | null;
  /** The command that mends it. */
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
    /** What the way of the post looks like past the outbox. */
    readonly way?: Partial<Record<'planned' | 'written' | 'cached' | 'pushed', [StepState, string]>>;
  };

/**
 * Why a post is in a feed, or is not. Of a row that is not there it waits `waitMs` at most to learn whether anything in the
 * queues still brings it. Throws USER_NOT_FOUND, POST_NOT_FOUND, or as the bus does where it has to be asked.
 */
export async function explain(
  context: Context,
  userId: number,
  postId: number,
  options: { waitMs?: number; signal?: AbortSignal } = {},
): Promise<Explanation> {
  const { db } = context;
  // One after the other: where neither is there, it is always the user who is missed.
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

async function judge(
  context: Context,
  { user, post, event, since }: Found,
  options: { waitMs?: number; signal?: AbortSignal },
): Promise<Outcome> {
  const { db } = context;
  if (post.deletedAt)
    return {
      verdict: 'deleted',
      reason: `deleted at ${post.deletedAt.toISOString()}; nobody is shown it`,
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
        : `user ${user.id} does not follow ${post.authorId}, and the log of events has no unfollow`,
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
  return absent(context, user, post, event, options);
}

const notOnItsWay = (why: string): NonNullable<Outcome['way']> => ({
  planned: ['none', why],
  written: ['none', why],
  cached: ['none', why],
  pushed: ['none', why],
});

const repair = (userId: number): string => `feedctl feed verify ${userId} --repair`;

async function presentOrUncached({ sharedCache }: Context, user: User, post: TracedPost): Promise<Outcome> {
  const held = sharedCache?.pages && (await cacheHolds(sharedCache, user.id, post.id));
  const way: NonNullable<Outcome['way']> = {
    planned: ['done', ''],
    written: ['done', ''],
    cached:
      held === undefined
        ? ['unknown', 'each gateway has a cache of its own']
        : held === 'none'
          ? ['none', 'the feed is not held']
          : held
            ? ['done', '']
            : ['waiting', 'held without this post'],
    pushed: ['unknown', ''],
  };
  if (held !== false) return { verdict: 'present', reason: 'its row is in the feed', way };
  return {
    verdict: 'missing',
    reason: 'its row is in the feed, and the cache holds the feed without it',
    mend: repair(user.id),
    way,
  };
}

/** `none`: the feed is not held, or not so far down. */
async function cacheHolds(cache: FeedCache, userId: number, postId: number): Promise<boolean | 'none'> {
  for (let looks = 1; ; looks += 1) {
    let holds: boolean | 'none' = 'none';
    for await (const [, feed] of cache.entries([userId]))
      if (postId > feed.completeAbove) holds = feed.entries.some((entry) => entry.postId === postId);
    if (holds !== false || looks === CACHE_LOOKS) return holds;
    await sleep(CACHE_LOOK_MS);
  }
}

/** It should have a row, and has none: on its way, put aside, or lost. */
async function absent(
  context: Context,
  user: User,
  post: TracedPost,
  event: Event,
  options: { waitMs?: number; signal?: AbortSignal },
): Promise<Outcome> {
  const { db, bus } = context;
  const follow = await lastEventAbout(db, {
    aggregateId: user.id,
    subjectId: post.authorId,
    type: 'follow.created',
  });
  const waiting = [event, follow].find((one) => one && !one.dispatchedAt);
  if (waiting) {
    const behind = await undispatchedBefore(db, waiting.id);
    const what = waiting === event ? 'its event' : `the follow of ${post.authorId}`;
    return {
      verdict: 'pending',
      reason: `${what} waits in the outbox since ${waiting.occurredAt.toISOString()}`,
      pending: { behind, etaSeconds: null },
      way: { planned: ['waiting', ''], written: ['waiting', ''] },
    };
  }
  const before = await bus.depths();
  const startedAt = performance.now();
  const step = await stepNotPassed(bus, options);
  if (await hasFeedRow(db, user.id, post.id)) return presentOrUncached(context, user, post);
  const letter = await deadLetterOf(context, user, post);
  if (letter) {
    const planned = letter.queue.startsWith('rows.');
    return {
      verdict: 'dead-lettered',
      reason: `a message of ${letter.queue} was put aside at ${letter.diedAt.toISOString()}: ${letter.reason}`,
      mend: `feedctl dlq replay ${letter.id}`,
      way: {
        planned: planned ? ['done', ''] : ['waiting', 'put aside'],
        written: ['waiting', planned ? 'put aside' : ''],
      },
    };
  }
  if (step !== undefined) {
    const left: readonly string[] = STAGES.slice(step).flat();
    const depth = (depths: readonly QueueDepth[]) =>
      depths.reduce((sum, one) => sum + (left.includes(one.queue) ? one.ready + one.unacked : 0), 0);
    const after = await bus.depths();
    const behind = depth(after);
    const drained = (depth(before) - behind) / ((performance.now() - startedAt) / 1000);
    const etaSeconds = drained > 0 ? Math.round((behind / drained) * 10) / 10 : null;
    const paused = laneTroubles(await readLanes(db)).find(
      ({ lane, kind }) => kind === 'PAUSED' && LANES_OF_STEP[step]!.includes(lane),
    );
    const slow = paused
      ? `; the ${paused.lane} lane is PAUSED ${paused.detail} (\`${paused.fix}\`)`
      : drained > 0
        ? ''
        : '; the queues do not get shorter (`feedctl worker list`)';
    return {
      verdict: 'pending',
      reason: `on its way behind at most ${behind} message(s) in ${STAGES[step]!.join(' and ')}${slow}`,
      pending: { behind, etaSeconds },
      way: { planned: ['unknown', ''], written: ['waiting', ''] },
    };
  }
  const mirrored = await isFollower(db, user.id, post.authorId);
  return {
    verdict: 'missing',
    reason: `${
      mirrored
        ? 'everything that was in the queues has been written, and its row is not there'
        : `fan-out does not know that ${user.id} follows ${post.authorId}: followers lacks the pair`
    }`,
    mend: repair(user.id),
    way: { planned: ['unknown', ''], written: ['waiting', 'lost'] },
  };
}

/** The first step of the bus that does not get past what it held at the beginning; undefined where all do in time. */
async function stepNotPassed(
  bus: Bus,
  { waitMs = WAIT_MS, signal }: { waitMs?: number; signal?: AbortSignal },
): Promise<number | undefined> {
  const until = Date.now() + waitMs;
  for (const [step, queues] of STAGES.entries()) {
    const barrier = await bus.placeBarrier(queues);
    while (!(await bus.hasPassed(barrier))) {
      if (Date.now() > until) return step;
      await sleep(POLL_MS, undefined, signal && { signal });
    }
  }
  return undefined;
}

/** Ids are in messages as eight bytes each: only what holds them is decoded. */
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
        // One that was put aside because it is damaged says nothing about posts.
        if (!isFeedctlError(error, 'BUS_MESSAGE_INVALID')) throw error;
      }
    }
  }
  return undefined;
}

/** The event of the post, or that of the follow which would have brought it. */
const concerns = (body: Buffer, user: User, post: TracedPost): boolean =>
  decodeEvents(body).events.some(
    ({ type, aggregateId, subjectId }) =>
      (type === 'post.created' && subjectId === post.id) ||
      (type === 'follow.created' && aggregateId === user.id && subjectId === post.authorId),
  );

const NOT_RECORDED = 'not recorded';

function stepsOf({ post, event, online }: Found, { way = {} }: Outcome): WayStep[] {
  const past = (step: 'planned' | 'written' | 'cached' | 'pushed'): WayStep => {
    const [state, detail] = way[step] ?? ['waiting', ''];
    const untimed = state === 'done' || state === 'unknown' ? NOT_RECORDED : '';
    const note = step === 'pushed' && state === 'unknown' ? `now online at ${online} gateway(s)` : detail;
    return { step, state, at: null, detail: [untimed, note].filter(Boolean).join('; ') };
  };
  const dispatched = event?.dispatchedAt ?? null;
  return [
    { step: 'created', state: 'done', at: post.createdAt, detail: '' },
    {
      step: 'dispatched',
      state: dispatched ? 'done' : event ? 'waiting' : 'unknown',
      at: dispatched,
      detail: event ? '' : 'the log of events does not go back so far',
    },
    past('planned'),
    past('written'),
    past('cached'),
    past('pushed'),
  ];
}
