import type { Queryable, Session } from '../../database/types.ts';
import { FEED_LIMIT } from '../../model/feed.ts';
import { lockPushStates } from '../../store/celebrities.ts';
import { rebuildShardFeeds } from './citus.ts';

/** What was done to some feeds, or would be. */
export interface FeedsRebuilt {
  /** Rows that they hold afterwards. */
  readonly items: number;
  readonly added: number;
  readonly removed: number;
  /** Users whose rows or floor are others than before. */
  readonly changed: readonly number[];
}

/**
 * How feeds differ from the newest n posts of those followed: all of it in one snapshot, so that a row which fan-out writes
 * meanwhile is no difference. In: users, n. `floors`: the newest post that is not among them, or 0 where there is none.
 * `extra`: what no reader is to be shown from the table: below the floor, of strangers, celebrities, deleted posts.
 */
const DIFFERENCE = `
  with newest as materialized (
    select u.id as user_id, t.id as post_id, t.author_id, t.nth
    from unnest($1::bigint[]) u(id) cross join lateral (
      select p.id, p.author_id, row_number() over (order by p.id desc) as nth
      from follows f
      join users a on a.id = f.followee_id and a.push_state <> 'pull'
      cross join lateral (select id, author_id from posts where author_id = f.followee_id and deleted_at is null
                          order by id desc limit $2 + 1) p
      where f.follower_id = u.id order by p.id desc limit $2 + 1) t
  ), held as materialized (
    select user_id, post_id, author_id from feed_items where user_id = any($1)
  ), missing as materialized (
    select n.user_id, n.post_id, n.author_id
    from newest n left join held h on h.user_id = n.user_id and h.post_id = n.post_id
    where n.nth <= $2 and h.author_id is distinct from n.author_id
  ), extra as materialized (
    select h.user_id, h.post_id
    from held h left join newest n on n.user_id = h.user_id and n.post_id = h.post_id and n.nth <= $2
    where n.user_id is null
  ), floors as materialized (
    select u.id, coalesce(n.post_id, 0) as floor
    from unnest($1::bigint[]) i(id) join users u on u.id = i.id
    left join newest n on n.user_id = u.id and n.nth = $2 + 1
    where u.feed_floor <> coalesce(n.post_id, 0)
  )`;

const COUNTS = `
  select (select count(*)::integer from newest where nth <= $2) as items,
         (select count(*)::integer from missing) as added, (select count(*)::integer from extra) as removed,
         array(select user_id from missing union select user_id from extra union select id from floors) as changed`;

/**
 * The users are named once more where rows change: of what comes out of the difference too much is expected, and the table
 * would be read as a whole. `again`: a row of somebody else's has come in between, or a row has a wrong author.
 */
const apply = (again: boolean): string => `
  ${DIFFERENCE}, floored as (
    update users set feed_floor = f.floor from floors f where users.id = f.id and users.id = any($1)
  ), added as (
    insert into feed_items (user_id, post_id, author_id)
    select user_id, post_id, author_id from missing order by 1, 2
    ${
      again
        ? `on conflict (user_id, post_id) do update set author_id = excluded.author_id
             where feed_items.author_id <> excluded.author_id`
        : ''
    }
  ), gone as (
    delete from feed_items i using extra e
    where i.user_id = any($1) and i.user_id = e.user_id and i.post_id = e.post_id
  ) ${COUNTS}`;

export interface RebuildOptions {
  readonly distributed: boolean;
  /** Insert beside rows that may be there: see `apply`. */
  readonly again: boolean;
}

/**
 * Inside the caller's transaction, on Citus for users of one shard. The users' rows stay locked: a trim or a backfill
 * of the same feed waits. Throws a duplicate (`isDuplicate`) where it has to be done with `again`.
 */
export async function rebuildFeeds(
  session: Session,
  userIds: readonly number[],
  { distributed, again }: RebuildOptions,
): Promise<FeedsRebuilt> {
  await lockPushStates(session);
  await session.query('select 1 from users where id = any($1) order by id for update', [userIds]);
  if (distributed) return rebuildShardFeeds(session, userIds, FEED_LIMIT);
  return counted(session, apply(again), userIds);
}

/** What `rebuildFeeds` would do, on plain PostgreSQL: reads, and locks nothing. */
export const planRebuild = (db: Queryable, userIds: readonly number[]): Promise<FeedsRebuilt> =>
  counted(db, DIFFERENCE + COUNTS, userIds);

async function counted(db: Queryable, statement: string, userIds: readonly number[]): Promise<FeedsRebuilt> {
  const { rows } = await db.query<FeedsRebuilt & { changed: string[] }>(statement, [userIds, FEED_LIMIT]);
  return { ...rows[0]!, changed: rows[0]!.changed.map(Number) };
}
