import type { Database, Queryable } from '../database/database.ts';
import { copyPairState } from '../store/follows.ts';
import { insertUser } from '../store/users.ts';

/** The two users of one probe: one posts, the other follows them and listens. */
export interface ProbePair {
  readonly authorId: number;
  readonly readerId: number;
}

const PREFIX = 'probe.';
const settingOf = (pair: ProbePair): string => `${PREFIX}${pair.authorId}.${pair.readerId}`;

/**
 * Inserts two users and a follow directly into their tables. A follow through the outbox would be
 * stuck where the path is stuck, which the probe has to report. A setting names the pair first, so
 * that rows of an interrupted probe are found later.
 */
export async function insertProbePair(db: Database, pair: ProbePair): Promise<void> {
  await db.query('insert into settings (name, value) values ($1, to_jsonb(clock_timestamp()))', [
    settingOf(pair),
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

/**
 * Returns pairs of probes that began longer ago than any probe takes: they have ended without a
 * cleanup.
 */
export async function leftoverPairs(db: Queryable, olderThanMs: number): Promise<ProbePair[]> {
  const { rows } = await db.query<{ name: string }>(
    `select name from settings where name like '${PREFIX}%'
     and (value #>> '{}')::timestamptz < clock_timestamp() - $1 * interval '1 ms'`,
    [olderThanMs],
  );
  return rows.map(({ name }) => {
    const [authorId, readerId] = name.slice(PREFIX.length).split('.').map(Number);
    return { authorId: authorId!, readerId: readerId! };
  });
}

/**
 * Deletes every row of a pair except its events, which are the audit trail. Each statement concerns
 * one shard. The setting is deleted last.
 */
export async function erasePair(db: Queryable, pair: ProbePair): Promise<void> {
  await db.query('delete from feed_items where user_id = $1', [pair.readerId]);
  await db.query('delete from follows where follower_id = $1', [pair.readerId]);
  await db.query('delete from followers where followee_id = $1', [pair.authorId]);
  await db.query('delete from posts where author_id = $1', [pair.authorId]);
  for (const id of [pair.authorId, pair.readerId]) await db.query('delete from users where id = $1', [id]);
  await db.query('delete from settings where name = $1', [settingOf(pair)]);
}

export interface ProbeTrace {
  /** Milliseconds ago by the database's clock; null before it happens. */
  readonly createdAgoMs: number | null;
  readonly dispatchedAgoMs: number | null;
  /** The row in the reader's feed is committed. */
  readonly written: boolean;
}

const AGO = (column: string) => `extract(epoch from clock_timestamp() - ${column})::float8 * 1000`;

/** Reads from the tables how far the author's post has come. */
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

/** Returns whether every event of the author has been dispatched. */
export async function probeDispatched(db: Queryable, authorId: number): Promise<boolean> {
  const { rowCount } = await db.query(
    'select 1 from events where aggregate_id = $1 and dispatched_at is null',
    [authorId],
  );
  return rowCount === 0;
}
