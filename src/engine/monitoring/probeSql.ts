import type { Database, Queryable } from '../database/database.ts';
import { copyPairState } from '../store/follows.ts';
import { insertUser } from '../store/users.ts';

/** The two users of one probe: one posts, the other follows them and listens. */
export interface ProbePair {
  readonly authorId: number;
  readonly readerId: number;
}

const NOTE = 'probe.';
const noteOf = (pair: ProbePair): string => `${NOTE}${pair.authorId}.${pair.readerId}`;

/**
 * Two users and a follow, written straight to their tables: a probe has to say where the path is stuck, and not be stuck
 * itself because a follow goes the same way. Noted first, so that what a probe leaves behind is found again.
 */
export async function insertProbePair(db: Database, pair: ProbePair): Promise<void> {
  await db.query('insert into settings (name, value) values ($1, to_jsonb(clock_timestamp()))', [
    noteOf(pair),
  ]);
  await insertUser(db, { id: pair.authorId, firstName: 'feedctl', secondName: 'probe author' });
  await insertUser(db, { id: pair.readerId, firstName: 'feedctl', secondName: 'probe reader' });
  const follow = { followerId: pair.readerId, followeeId: pair.authorId };
  await db.query('insert into follows (follower_id, followee_id) values ($1, $2)', [
    follow.followerId,
    follow.followeeId,
  ]);
  await copyPairState(db, follow);
}

/** Pairs of probes that began so long ago that they have ended, without cleaning up. */
export async function leftoverPairs(db: Queryable, olderThanMs: number): Promise<ProbePair[]> {
  const { rows } = await db.query<{ name: string }>(
    `select name from settings where name like '${NOTE}%'
     and (value #>> '{}')::timestamptz < clock_timestamp() - $1 * interval '1 ms'`,
    [olderThanMs],
  );
  return rows.map(({ name }) => {
    const [authorId, readerId] = name.slice(NOTE.length).split('.').map(Number);
    return { authorId: authorId!, readerId: readerId! };
  });
}

/** Every row of a pair but its events, which are the audit trail. One shard a statement; the note goes last. */
export async function erasePair(db: Queryable, pair: ProbePair): Promise<void> {
  await db.query('delete from feed_items where user_id = $1', [pair.readerId]);
  await db.query('delete from follows where follower_id = $1', [pair.readerId]);
  await db.query('delete from followers where followee_id = $1', [pair.authorId]);
  await db.query('delete from posts where author_id = $1', [pair.authorId]);
  for (const id of [pair.authorId, pair.readerId]) await db.query('delete from users where id = $1', [id]);
  await db.query('delete from settings where name = $1', [noteOf(pair)]);
}

export interface ProbeTrace {
  /** Milliseconds ago by the database's clock; null where it has not happened. */
  readonly createdAgoMs: number | null;
  readonly dispatchedAgoMs: number | null;
  /** The row in the reader's feed is committed. */
  readonly written: boolean;
}

const AGO = (column: string) => `extract(epoch from clock_timestamp() - ${column})::float8 * 1000`;

/** How far the author's one post has come, by what is in the tables. */
export async function traceProbe(db: Queryable, pair: ProbePair): Promise<ProbeTrace> {
  const [event, item] = await Promise.all([
    db.query<{ created: number; dispatched: number | null }>(
      `select ${AGO('occurred_at')} as created, ${AGO('dispatched_at')} as dispatched
       from events where aggregate_id = $1 and type = 'post.created'`,
      [pair.authorId],
    ),
    db.query('select 1 from feed_items where user_id = $1', [pair.readerId]),
  ]);
  return {
    createdAgoMs: event.rows[0]?.created ?? null,
    dispatchedAgoMs: event.rows[0]?.dispatched ?? null,
    written: item.rowCount === 1,
  };
}

/** Whether every event of the author has left the outbox. */
export async function probeDispatched(db: Queryable, authorId: number): Promise<boolean> {
  const { rowCount } = await db.query(
    'select 1 from events where aggregate_id = $1 and dispatched_at is null',
    [authorId],
  );
  return rowCount === 0;
}
