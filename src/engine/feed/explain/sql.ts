import type { Queryable } from '../../database/types.ts';
import type { PushState } from '../../model/celebrity.ts';
import { FeedctlError } from '../../model/errors.ts';
import type { EventType } from '../../model/event.ts';

export interface TracedPost {
  readonly id: number;
  readonly authorId: number;
  readonly createdAt: Date;
  readonly deletedAt: Date | null;
}

/** Returns a post, also a deleted one. Throws POST_NOT_FOUND. */
export async function tracedPost(db: Queryable, postId: number): Promise<TracedPost> {
  const { rows } = await db.query<TracedPost>(
    `select id, author_id as "authorId", created_at as "createdAt", deleted_at as "deletedAt"
     from posts where id = $1`,
    [postId],
  );
  if (!rows[0]) throw new FeedctlError('POST_NOT_FOUND', `there is no post ${postId}`);
  return rows[0];
}

/**
 * Returns the last event of this type about a pair, or about a post and its author. Returns
 * undefined if the log has none.
 */
export async function lastEventAbout(
  db: Queryable,
  about: { aggregateId: number; subjectId: number; type: EventType },
): Promise<{ id: number; occurredAt: Date; dispatchedAt: Date | null } | undefined> {
  const { rows } = await db.query<{ id: number; occurredAt: Date; dispatchedAt: Date | null }>(
    `select id, occurred_at as "occurredAt", dispatched_at as "dispatchedAt" from events
     where aggregate_id = $1 and subject_id = $2 and type = $3 order by id desc limit 1`,
    [about.aggregateId, about.subjectId, about.type],
  );
  return rows[0];
}

/** Returns the number of older events in the outbox. */
export async function undispatchedBefore(db: Queryable, eventId: number): Promise<number> {
  const { rows } = await db.query<{ count: number }>(
    'select count(*)::integer as count from events where dispatched_at is null and id < $1',
    [eventId],
  );
  return rows[0]!.count;
}

/** Returns the time of a follow, or undefined without a follow. */
export async function followedSince(
  db: Queryable,
  userId: number,
  authorId: number,
): Promise<Date | undefined> {
  const { rows } = await db.query<{ since: Date }>(
    'select created_at as since from follows where follower_id = $1 and followee_id = $2',
    [userId, authorId],
  );
  return rows[0]?.since;
}

/** Returns whether `followers` has the pair. Fan-out reads that table. */
export async function isFollower(db: Queryable, userId: number, authorId: number): Promise<boolean> {
  const { rowCount } = await db.query('select 1 from followers where followee_id = $1 and follower_id = $2', [
    authorId,
    userId,
  ]);
  return rowCount === 1;
}

export async function hasFeedRow(db: Queryable, userId: number, postId: number): Promise<boolean> {
  const { rowCount } = await db.query('select 1 from feed_items where user_id = $1 and post_id = $2', [
    userId,
    postId,
  ]);
  return rowCount === 1;
}

/** Returns the state in `celebrities`, which reads of feeds join. */
export async function readState(db: Queryable, authorId: number): Promise<PushState> {
  const { rows } = await db.query<{ state: PushState }>('select state from celebrities where user_id = $1', [
    authorId,
  ]);
  return rows[0]?.state ?? 'push';
}

/** Returns the number of gateways where a user has open sockets. */
export async function onlineAt(db: Queryable, userId: number): Promise<number> {
  const { rows } = await db.query<{ gateways: number }>(
    'select count(*)::integer as gateways from presence where user_id = $1',
    [userId],
  );
  return rows[0]!.gateways;
}
