import type { Database } from '../database/database.ts';
import type { Queryable, Session } from '../database/types.ts';
import type { PushState } from '../model/celebrity.ts';
import { FeedctlError } from '../model/errors.ts';
import { FEED_LIMIT } from '../model/feed.ts';
import { newestPostsAbove } from './posts.ts';

/**
 * Lock of push states. A backfill or a rebuild takes it shared: in one transaction it reads the
 * states of authors and writes rows accordingly. A change of state takes it exclusively. So no rows
 * are committed after a change by a transaction that read the earlier state. Planners do not take
 * it, because a change waits until their messages are drained.
 */
const LOCK_KEY = `hashtext('feedctl push states')`;

export async function lockPushStates(session: Queryable): Promise<void> {
  await session.query(`select pg_advisory_xact_lock_shared(${LOCK_KEY})`);
}

/**
 * Resolves when every active fill (backfill or rebuild) has committed. A cleanup calls it before
 * its last pass. Otherwise a fill that read a follow or a post before its end would add rows after
 * that pass, and no cleanup would remove them.
 */
export async function fillsEnded(db: Queryable): Promise<void> {
  await db.query(`select pg_advisory_xact_lock(${LOCK_KEY})`);
}

/** Changes both places that hold the state. Throws USER_NOT_FOUND. */
export async function setPushState(db: Database, userId: number, state: PushState): Promise<void> {
  await setPushStateUnless(db, userId, state, async () => false);
}

/**
 * Changes the state unless `refuses` returns true, which is asked last. Returns whether it changed.
 */
export async function setPushStateUnless(
  db: Database,
  userId: number,
  state: PushState,
  refuses: (session: Session) => Promise<boolean>,
): Promise<boolean> {
  return db.withSession(async (session) => {
    await session.query('begin');
    let ended = 'rollback';
    try {
      await writePushState(session, userId, state);
      if (!(await refuses(session))) ended = 'commit';
    } finally {
      await session.query(ended);
    }
    return ended === 'commit';
  });
}

async function writePushState(session: Session, userId: number, state: PushState): Promise<void> {
  await session.query(`select pg_advisory_xact_lock(${LOCK_KEY})`);
  const { rowCount } = await session.query(
    'update users set push_state = $2, version = version + 1 where id = $1',
    [userId, state],
  );
  if (rowCount === 0) throw new FeedctlError('USER_NOT_FOUND', `there is no user ${userId}`);
  if (state === 'push') {
    await session.query('delete from celebrities where user_id = $1', [userId]);
  } else {
    await session.query(
      `insert into celebrities (user_id, state) values ($1, $2)
         on conflict (user_id) do update set state = excluded.state`,
      [userId, state],
    );
  }
}

/**
 * Pins the state, so that evaluations do not change it. Returns whether the pin is new. Throws
 * USER_NOT_FOUND.
 */
export async function pinPushState(db: Queryable, userId: number, pinned: boolean): Promise<boolean> {
  const { rows } = await db.query<{ before: boolean }>(
    `update users u set push_pinned = $2 from users old
     where u.id = $1 and old.id = u.id returning old.push_pinned as before`,
    [userId, pinned],
  );
  if (!rows[0]) throw new FeedctlError('USER_NOT_FOUND', `there is no user ${userId}`);
  return rows[0].before !== pinned;
}

export interface Celebrity {
  readonly userId: number;
  readonly state: PushState;
  /** Marked by hand: evaluations skip this author. */
  readonly pinned: boolean;
  readonly followers: number;
  readonly posts: number;
}

export async function listCelebrities(db: Queryable): Promise<Celebrity[]> {
  const { rows } = await db.query<Celebrity>(
    `select c.user_id as "userId", c.state, u.push_pinned as pinned, u.follower_count as followers,
            (select count(*)::integer from posts p where p.author_id = u.id and p.deleted_at is null) as posts
     from celebrities c join users u on u.id = c.user_id order by u.follower_count desc, c.user_id`,
  );
  return rows;
}

/** Returns followers of an author in rising order, after `after`. */
export async function followersAfter(
  db: Queryable,
  authorId: number,
  after: number,
  limit: number,
): Promise<number[]> {
  const { rows } = await db.query<{ id: number }>(
    `select follower_id as id from followers where followee_id = $1 and follower_id > $2
     order by follower_id limit $3`,
    [authorId, after, limit],
  );
  return rows.map((row) => row.id);
}

/** Removes an author's rows from some feeds of one shard. */
export async function removeAuthorItems(
  session: Session,
  authorId: number,
  userIds: readonly number[],
): Promise<number> {
  const { rowCount } = await session.query(
    'delete from feed_items where user_id = any($1) and author_id = $2',
    [userIds, authorId],
  );
  return rowCount ?? 0;
}

/** In: author, followers of one shard, post ids. */
const ADD_POSTS = `
  insert into feed_items (user_id, post_id, author_id)
  select u.id, n.id, $1::bigint from users u join unnest($3::bigint[]) n(id) on n.id > u.feed_floor
  where u.id = any($2) and exists (
    select from follows f
    where f.follower_id = u.id and f.follower_id = any($2) and f.followee_id = $1::bigint)
  order by 1, 2 on conflict do nothing`;

/**
 * Copies an author's newest n posts above the floors of feeds of one shard. If there are more, the
 * floor of a feed rises to the first post that is not copied. Runs inside the caller's transaction,
 * which has locked the push states. Locks the rows of the users, so that the floors stay as they
 * were read.
 */
export async function backfillFollowers(
  session: Session,
  authorId: number,
  userIds: readonly number[],
): Promise<number> {
  await session.query('select 1 from users where id = any($1) order by id for update', [userIds]);
  const newest = await newestPostsAbove(session, authorId, 0, FEED_LIMIT + 1);
  const floor = newest[FEED_LIMIT];
  if (floor !== undefined)
    await session.query('update users set feed_floor = $2 where id = any($1) and feed_floor < $2', [
      userIds,
      floor,
    ]);
  const { rowCount } = await session.query(ADD_POSTS, [authorId, userIds, newest.slice(0, FEED_LIMIT)]);
  return rowCount ?? 0;
}
