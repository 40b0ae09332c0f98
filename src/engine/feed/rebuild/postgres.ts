import type { Queryable } from '../../database/types.ts';
import { FEED_LIMIT } from '../../model/feed.ts';
import { type FeedsRebuilt, lockFeeds, type RebuildVariant } from './variant.ts';

/**
 * Compares feeds with the newest n posts of followed authors, in one snapshot. So a row that
 * fan-out writes meanwhile is no difference. In: users, n. `floors`: the newest post beyond the n,
 * or 0 without one. `extra`: rows that no reader may see, which are below the floor, of unfollowed
 * authors, of celebrities or of deleted posts.
 */
const DIFFERENCE = `
  with newest as materialized (
    select u.id as user_id, t.id as post_id, t.author_id, t.nth
    from unnest($1::bigint[]) u(id) cross join lateral (
      select p.id, p.author_id, row_number() over (order by p.id desc) as nth
      from follows f
      join users a on a.id = f.followee_id and a.push_state <> 'pull'
      cross join lateral (
        select id, author_id from posts where author_id = f.followee_id and deleted_at is null
        order by id desc limit $2 + 1) p
      where f.follower_id = u.id order by p.id desc limit $2 + 1) t
  ), actual as materialized (
    select user_id, post_id, author_id from feed_items where user_id = any($1)
  ), missing as materialized (
    select n.user_id, n.post_id, n.author_id
    from newest n left join actual h on h.user_id = n.user_id and h.post_id = n.post_id
    where n.nth <= $2 and h.author_id is distinct from n.author_id
  ), extra as materialized (
    select h.user_id, h.post_id
    from actual h left join newest n on n.user_id = h.user_id and n.post_id = h.post_id and n.nth <= $2
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
         array(select user_id from missing union select user_id from extra
               union select id from floors) as changed`;

/**
 * Applies the difference. Each change names the users again: the planner overestimates the rows of
 * the difference, and would scan the whole table. `isRetry`: another transaction inserted a row
 * meanwhile, or a row has a wrong author.
 */
const apply = (isRetry: boolean): string => `
  ${DIFFERENCE}, floored as (
    update users set feed_floor = f.floor from floors f where users.id = f.id and users.id = any($1)
  ), added as (
    insert into feed_items (user_id, post_id, author_id)
    select user_id, post_id, author_id from missing order by 1, 2
    ${
      isRetry
        ? `on conflict (user_id, post_id) do update set author_id = excluded.author_id
             where feed_items.author_id <> excluded.author_id`
        : ''
    }
  ), removed as (
    delete from feed_items i using extra e
    where i.user_id = any($1) and i.user_id = e.user_id and i.post_id = e.post_id
  ) ${COUNTS}`;

async function counted(db: Queryable, statement: string, userIds: readonly number[]): Promise<FeedsRebuilt> {
  const { rows } = await db.query<FeedsRebuilt & { changed: string[] }>(statement, [userIds, FEED_LIMIT]);
  return { ...rows[0]!, changed: rows[0]!.changed.map(Number) };
}

export const postgresRebuild: RebuildVariant = {
  chunkLimits: { idleMs: 60, busyMs: 15, first: 100, least: 10 },
  /** One for each core of a small machine. */
  parts: 2,
  atomicChunks: true,

  async rebuild(session, userIds, isRetry) {
    await lockFeeds(session, userIds);
    return counted(session, apply(isRetry), userIds);
  },

  /** Reads, and locks nothing. */
  preview: (db, userIds) => counted(db, DIFFERENCE + COUNTS, userIds),
};
