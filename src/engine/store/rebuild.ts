import { FEED_LIMIT } from '../model/feed.ts';
import { lockPushStates } from './celebrities.ts';
import type { Session } from './database.ts';
import { rebuildShardFeeds } from './shardedRebuild.ts';

/**
 * Adds what is missing, or there with a wrong author, among the newest n posts of a user's followees, for many users. In: users, n. Sets the
 * floor to the newest post that is not among them, or to 0 where there is none.
 */
const ADD = `
  with newest as (
    select u.id as user_id, t.id as post_id, t.author_id, t.nth
    from unnest($1::bigint[]) u(id) cross join lateral (
      select p.id, p.author_id, row_number() over (order by p.id desc) as nth
      from follows f
      join users a on a.id = f.followee_id and a.push_state <> 'pull'
      cross join lateral (select id, author_id from posts where author_id = f.followee_id and deleted_at is null
                          order by id desc limit $2 + 1) p
      where f.follower_id = u.id order by p.id desc limit $2 + 1) t
  ), floors as (
    update users set feed_floor = coalesce((select post_id from newest n where n.user_id = users.id and n.nth = $2 + 1), 0)
    where id = any($1) returning id
  ), added as (
    insert into feed_items (user_id, post_id, author_id)
    select user_id, post_id, author_id from newest where nth <= $2 order by 1, 2
    on conflict (user_id, post_id) do update set author_id = excluded.author_id
      where feed_items.author_id <> excluded.author_id
  )
  select count(*) filter (where nth <= $2)::integer as items from newest`;

/** Removes what no reader would be shown from the table: below the floor, of strangers, celebrities, deleted posts. */
const REMOVE = `
  delete from feed_items i using users u
  where u.id = any($1) and i.user_id = u.id and (
    i.post_id <= u.feed_floor
    or not exists (select from follows where follower_id = i.user_id and followee_id = i.author_id)
    or not exists (select from posts where author_id = i.author_id and id = i.post_id and deleted_at is null)
    or not exists (select from users a where a.id = i.author_id and a.push_state <> 'pull'))`;

/**
 * Inside the caller's transaction, on Citus for users of one shard. The users' rows stay locked: a trim or a backfill
 * of the same feed waits.
 */
export async function rebuildFeeds(
  session: Session,
  userIds: readonly number[],
  distributed: boolean,
): Promise<number> {
  await lockPushStates(session);
  await session.query('select 1 from users where id = any($1) order by id for update', [userIds]);
  if (distributed) return rebuildShardFeeds(session, userIds, FEED_LIMIT);
  const { rows } = await session.query<{ items: number }>(ADD, [userIds, FEED_LIMIT]);
  await session.query(REMOVE, [userIds]);
  return rows[0]!.items;
}
