import { CopyRows, copyIn } from '../database/copy.ts';
import type { Session } from '../database/types.ts';
import type { EventRef } from '../model/event.ts';
import { timeOfId } from '../model/ids.ts';

export interface SeedCounts {
  /** New users and follows. */
  readonly users: number;
  readonly follows: number;
  /** Users and follows in the files, new or not. */
  readonly usersInFiles: number;
  readonly followsInFiles: number;
  /** Authors that are pulled from now on. */
  readonly celebrities: number;
}

export async function prepareSeed(session: Session): Promise<void> {
  await session.query(
    'create temporary table seed_pairs (follower_id bigint, followee_id bigint) on commit drop',
  );
}

/**
 * Inserts the followers of the pairs in seed_pairs. Sorted, so that the indexes grow at their end.
 */
const INSERT_USERS = `
  with ids as (select follower_id as id from seed_pairs union select followee_id from seed_pairs),
  added as (insert into users (id) select id from ids order by id on conflict do nothing returning 1)
  select (select count(*)::integer from ids) as named, (select count(*)::integer from added) as added`;

const INSERT_FOLLOWS = `
  with pairs as (select distinct follower_id, followee_id from seed_pairs where follower_id <> followee_id),
  added as (insert into follows (follower_id, followee_id)
            select * from pairs order by 1, 2 on conflict do nothing returning follower_id, followee_id),
  kept as (insert into seed_added select * from added)
  select (select count(*)::integer from pairs) as named, (select count(*)::integer from added) as added`;

/**
 * Counts the new rows. A pair whose unfollow is not handled yet still has its row, and is counted.
 */
const INSERT_FOLLOWERS = `
  with added as (insert into followers (followee_id, follower_id)
                 select followee_id, follower_id from seed_added order by 1, 2 on conflict do nothing
                 returning followee_id)
  update users u set follower_count = u.follower_count + a.added
  from (select followee_id, count(*)::integer as added from added group by followee_id) a
  where u.id = a.followee_id`;

/**
 * Marks authors above a threshold. In: threshold. Only authors without a post, because others have
 * rows in feeds and change by way of \`both\`.
 */
const MARK_CELEBRITIES = `
  with marked as (
    update users u set push_state = 'pull'
    where u.follower_count > $1 and u.push_state = 'push' and not u.push_pinned
      and u.id in (select followee_id from seed_added)
      and not exists (select from posts p where p.author_id = u.id)
    returning id)
  insert into celebrities (user_id, state) select id, 'pull' from marked`;

/**
 * Converts seed_pairs to users, follows and followers, inside the caller's transaction. New
 * followers of authors with posts get a follow event, whose handler backfills their feeds.
 *
 * \`posts\` is locked against writes from the insert into \`followers\` until the commit. Otherwise
 * a post in between would be planned without the new followers, and no event would backfill it.
 */
export async function loadSeed(
  session: Session,
  options: { celebrityThreshold: number; mintIds: (count: number) => Promise<number[]> },
): Promise<SeedCounts & { events: EventRef[] }> {
  await session.query(
    'create temporary table seed_added (follower_id bigint, followee_id bigint) on commit drop',
  );
  await session.query('analyze seed_pairs');
  const users = (await session.query<{ named: number; added: number }>(INSERT_USERS)).rows[0]!;
  const follows = (await session.query<{ named: number; added: number }>(INSERT_FOLLOWS)).rows[0]!;
  await session.query('lock table posts in share mode');
  await session.query(INSERT_FOLLOWERS);
  const marked = await session.query(MARK_CELEBRITIES, [options.celebrityThreshold]);
  const backfills = await session.query<{ follower_id: number; followee_id: number }>(
    `select follower_id, followee_id from seed_added
     where followee_id in (
       select author_id from posts where author_id in (select followee_id from seed_added))`,
  );
  const ids = await options.mintIds(backfills.rows.length);
  const events = backfills.rows.map(
    (pair, i): EventRef => ({
      id: ids[i]!,
      type: 'follow.created',
      aggregateId: pair.follower_id,
      subjectId: pair.followee_id,
    }),
  );
  if (events.length > 0) await copyFollowEvents(session, events);
  return {
    users: users.added,
    follows: follows.added,
    usersInFiles: users.named,
    followsInFiles: follows.named,
    celebrities: marked.rowCount ?? 0,
    events,
  };
}

async function copyFollowEvents(session: Session, events: readonly EventRef[]): Promise<void> {
  const rows = new CopyRows(events.length * 96);
  for (const event of events) {
    rows.row(6).bigint(event.id).bigint(event.aggregateId).bigint(event.subjectId);
    rows.text(event.type).timestamp(timeOfId(event.id)).jsonb({});
  }
  await copyIn(
    session,
    'copy events (id, aggregate_id, subject_id, type, occurred_at, data) from stdin (format binary)',
    [rows.bytes],
  );
}
