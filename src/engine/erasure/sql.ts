import type { Database, Queryable, Session } from '../database/database.ts';
import { retriedTransaction } from '../database/retriedTransaction.ts';
import { fillsEnded, followersAfter } from '../store/celebrities.ts';
import { runConcurrently } from '../util/parallel.ts';

/** Maximum rows of one transaction. */
const ROWS = 1_000;
/** Shards that are written at the same time. */
const CONCURRENCY = 4;

/** Row counts of a user, each from the one shard that stores the rows. */
export interface UserRows {
  readonly posts: number;
  readonly followers: number;
  readonly following: number;
  readonly feedItems: number;
  readonly events: number;
  readonly idempotencyKeys: number;
}

export async function countUserRows(db: Queryable, userId: number): Promise<UserRows> {
  const count = async (rows: string) =>
    (await db.query<{ n: number }>(`select count(*)::integer as n from ${rows} = $1`, [userId])).rows[0]!.n;
  return {
    posts: await count('posts where author_id'),
    followers: await count('followers where followee_id'),
    following: await count('follows where follower_id'),
    feedItems: await count('feed_items where user_id'),
    events: await count('events where aggregate_id'),
    idempotencyKeys: await count('idempotency_keys where author_id'),
  };
}

/** Deletes the user's row: from then on they cannot post, follow, log in or be followed. */
export async function removeUser(db: Database, userId: number): Promise<void> {
  await fillsEnded(db);
  await db.transaction(async (session) => {
    await session.query('delete from users where id = $1', [userId]);
    await session.query('delete from celebrities where user_id = $1', [userId]);
  });
}

/** Blanks some of the user's posts, deleted ones included. Returns their ids. None: no post is left. */
export async function blankPosts(db: Queryable, authorId: number): Promise<number[]> {
  const found = await db.query<{ id: number }>(
    'select id from posts where author_id = $1 order by id desc limit $2',
    [authorId, ROWS],
  );
  const ids = found.rows.map(({ id }) => id);
  if (ids.length > 0)
    await db.query(
      `update posts set body = '', deleted_at = coalesce(deleted_at, $3::timestamptz), version = version + 1
       where author_id = $1 and id = any($2)`,
      // Citus takes no now() within a coalesce.
      [authorId, ids, new Date()],
    );
  return ids;
}

export async function removePosts(db: Queryable, authorId: number, ids: readonly number[]): Promise<void> {
  await db.query('delete from posts where author_id = $1 and id = any($2)', [authorId, ids]);
}

/** Returns the user's sockets at gateways that are alive. Deletes those of dead gateways. */
export async function openPresence(db: Queryable, userId: number, timeoutSeconds: number): Promise<number> {
  await db.query(
    `delete from presence where user_id = $1 and gateway_id not in (
       select id from gateways where heartbeat_at > now() - $2 * interval '1 s')`,
    [userId, timeoutSeconds],
  );
  return (await db.query('select 1 from presence where user_id = $1', [userId])).rowCount ?? 0;
}

/**
 * Removes the user from the feeds and follows of some followers, in one transaction a shard, and returns
 * the followers' ids. `forgetFollowers` deletes the rows that lead to them afterwards. `changing` is
 * called inside of each transaction.
 */
export async function removeFollowersOf(
  db: Database,
  userId: number,
  changing: (session: Session, userIds: readonly number[]) => Promise<void>,
): Promise<number[]> {
  const sharding = await db.sharding();
  const ids = await followersAfter(db, userId, 0, ROWS * Math.max(1, sharding.shards.length));
  await runConcurrently(
    sharding.group(ids, (id) => id),
    CONCURRENCY,
    (group) =>
      retriedTransaction(db, async (session) => {
        await session.query('delete from feed_items where user_id = any($1) and author_id = $2', [
          group,
          userId,
        ]);
        await session.query('delete from follows where follower_id = any($1) and followee_id = $2', [
          group,
          userId,
        ]);
        await changing(session, group);
      }),
  );
  return ids;
}

export async function forgetFollowers(
  db: Queryable,
  userId: number,
  followerIds: readonly number[],
): Promise<void> {
  await db.query('delete from followers where followee_id = $1 and follower_id = any($2)', [
    userId,
    followerIds,
  ]);
}

/** In: followees of one shard, follower. Atomic: rows and counts change together. */
const UNCOUNT = `
  with removed as (
    delete from followers where followee_id = any($1) and follower_id = $2 returning followee_id)
  update users set follower_count = follower_count - 1
  where id = any($1) and id in (select followee_id from removed where followee_id = any($1))`;

/** Removes a follower from followees and from their counts. */
export async function uncountFollower(
  db: Database,
  followerId: number,
  followeeIds: readonly number[],
): Promise<void> {
  const sharding = await db.sharding();
  await runConcurrently(
    sharding.group(followeeIds, (id) => id),
    CONCURRENCY,
    (group) => retriedTransaction(db, (session) => session.query(UNCOUNT, [group, followerId])),
  );
}

/** Deletes some of the user's follows. Returns how many. */
export async function removeFollowsOf(db: Database, userId: number): Promise<number> {
  const { rows } = await db.query<{ id: number }>(
    'select followee_id as id from follows where follower_id = $1 order by followee_id limit $2',
    [userId, ROWS],
  );
  const followees = rows.map(({ id }) => id);
  await uncountFollower(db, userId, followees);
  // Last, because these rows lead to the counts.
  await db.query('delete from follows where follower_id = $1 and followee_id = any($2)', [userId, followees]);
  return followees.length;
}

/** Tables with rows of the user: owner column, and key to delete batches by. */
const OWN_ROWS = [
  ['feed_items', 'user_id', 'post_id'],
  ['idempotency_keys', 'author_id', 'key'],
  ['events', 'aggregate_id', 'id'],
] as const;

/** Deletes the rows in the user's own shard, and in tables that are not sharded. */
export async function removeOwnRows(db: Queryable, userId: number): Promise<void> {
  for (const [table, owner, key] of OWN_ROWS) {
    const some = `select ${key} from ${table} where ${owner} = $1 order by ${key} limit ${ROWS}`;
    for (;;) {
      const { rows } = await db.query<Record<string, unknown>>(some, [userId]);
      if (rows.length === 0) break;
      await db.query(`delete from ${table} where ${owner} = $1 and ${key} = any($2)`, [
        userId,
        rows.map((row) => row[key]),
      ]);
    }
  }
  await db.query('delete from tickets where user_id = $1', [userId]);
  await db.query('delete from presence where user_id = $1', [userId]);
}

/** Deletes the user's operations except the erasure itself. */
export async function forgetOperations(db: Queryable, userId: number, kind: string): Promise<void> {
  await db.query('delete from operations where key = $1 and kind <> $2', [String(userId), kind]);
}

/**
 * Rows of other users that name the user. No index leads to them: each table is scanned. The step
 * `followers` has removed them from follows and feeds; these are left from crashes or concurrent writes.
 */
const STRAYS = [
  { table: 'feed_items', owner: 'user_id', names: 'author_id' },
  { table: 'follows', owner: 'follower_id', names: 'followee_id' },
  { table: 'followers', owner: 'followee_id', names: 'follower_id' },
  { table: 'events', owner: 'aggregate_id', names: 'subject_id', where: `and type like 'follow.%'` },
] as const;

/** Deletes such rows. Returns how many owners had some. */
export async function removeStrays(
  db: Database,
  userId: number,
  onOwners: (userIds: readonly number[]) => Promise<void>,
): Promise<number> {
  const sharding = await db.sharding();
  let removed = 0;
  for (const { table, owner, names, ...rest } of STRAYS) {
    const where = 'where' in rest ? rest.where : '';
    for (;;) {
      const { rows } = await db.query<{ id: number }>(
        `select distinct ${owner} as id from ${table} where ${names} = $1 ${where} limit ${ROWS}`,
        [userId],
      );
      if (rows.length === 0) break;
      const ids = rows.map(({ id }) => id);
      if (table === 'followers') await uncountFollower(db, userId, ids);
      const remove = `delete from ${table} where ${owner} = any($1) and ${names} = $2 ${where}`;
      await runConcurrently(
        sharding.group(ids, (id) => id),
        CONCURRENCY,
        (group) => retriedTransaction(db, (session) => session.query(remove, [group, userId])),
      );
      await onOwners(ids);
      removed += ids.length;
    }
  }
  return removed;
}
