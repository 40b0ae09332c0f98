import type { Store } from '../../database/sharding.ts';
import type { FeedPages, Page, PageRow } from './types.ts';

/**
 * Sources of the pushed part of a page: the table, or ids from a cache. In: user, before, limit.
 */
const PUSHED = {
  table: `
      select post_id, author_id from feed_items where user_id = $1 and post_id > (select floor from feed)`,
  cache: `
      select post_id, author_id from unnest($5::bigint[], $6::bigint[]) c(post_id, author_id)
      where post_id > $4`,
};

/**
 * Returns one page above the floor: pushed entries, posts of celebrities, the user's own posts. In:
 * user, before, limit; for the cache also: floor, post ids, authors. Joins follows and deletions in
 * their current state.
 *
 * Follows and posts of pushed entries are looked up row by row. With joins the server reads all rows of a
 * reader, because it expects few of them to match, instead of the newest ones until the page is full.
 *
 * One statement is one snapshot. So a post cannot move between two parts meanwhile, and the floor
 * cannot rise above rows that the page needs. An empty page is one row with the floor alone. An
 * unknown user has no row.
 */
const pageStatement = (pushed: keyof typeof PUSHED): string => `
  with feed as (
    select feed_floor as floor from users where id = $1
  ), merged as (
    (select i.post_id, i.author_id, 'pushed' as source, 1 as rank
     from (${PUSHED[pushed]}) i
     where i.post_id < $2
       and (select true from follows f where f.follower_id = $1 and f.followee_id = i.author_id)
       and (select deleted_at is null from posts p where p.author_id = i.author_id and p.id = i.post_id)
     order by i.post_id desc limit $3)
    union all
    (select c.id, c.author_id, 'pulled', 2
     from follows f join celebrities on celebrities.user_id = f.followee_id
     cross join lateral (
       select id, author_id from posts where author_id = f.followee_id and id < $2 and deleted_at is null
       order by id desc limit $3) c
     where f.follower_id = $1 order by c.id desc limit $3)
    union all
    (select id, author_id, 'own', 3 from posts
     where author_id = $1 and id < $2 and deleted_at is null order by id desc limit $3)
  ), page as (
    select distinct on (post_id) * from merged order by post_id desc, rank limit $3
  )
  select feed.floor, page.post_id as "postId", page.author_id as "authorId", page.source, p.body,
         p.created_at as "createdAt"
  from feed left join (page join posts p on p.author_id = page.author_id and p.id = page.post_id) on true
  order by page.post_id desc`;

const STATEMENTS = { table: pageStatement('table'), cache: pageStatement('cache') };

/** Returns posts at and below the floor, from their authors. In: user, before, limit, floor. */
const BELOW_FLOOR = `
  select o.id as "postId", o.author_id as "authorId", 'pulled' as source, o.body, o.created_at as "createdAt"
  from follows f cross join lateral (
    select * from posts where author_id = f.followee_id and id < $2 and id <= $4 and deleted_at is null
    order by id desc limit $3) o
  where f.follower_id = $1 order by o.id desc limit $3`;

async function readPage(
  db: Store,
  pushed: keyof typeof PUSHED,
  values: unknown[],
): Promise<Page | undefined> {
  const { rows } = await db.query<Omit<PageRow, 'postId'> & { floor: number; postId: number | null }>(
    STATEMENTS[pushed],
    values,
    `page_of_${pushed}`,
  );
  const first = rows[0];
  if (!first) return undefined;
  return {
    floor: first.floor,
    rows: rows.flatMap(({ floor: _, postId, ...row }) => (postId === null ? [] : [{ postId, ...row }])),
  };
}

/** Pages on plain PostgreSQL: one statement each. */
export const postgresPages: FeedPages = {
  aboveFloor: (db, { userId, before, limit }) => readPage(db, 'table', [userId, before, limit]),

  async ofCached(db, { userId, before, limit, floor }, cached) {
    const postIds = cached.map((entry) => entry.postId);
    const authorIds = cached.map((entry) => entry.authorId);
    const page = await readPage(db, 'cache', [userId, before, limit, floor, postIds, authorIds]);
    return page?.rows ?? [];
  },

  async belowFloor(db, { userId, before, limit, floor }) {
    return (await db.query<PageRow>(BELOW_FLOOR, [userId, before, limit, floor], 'page_below_floor')).rows;
  },
};
