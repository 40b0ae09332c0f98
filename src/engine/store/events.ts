import type { Database } from '../database/database.ts';
import { type LimitLocks, type LockWait, withShortLocks } from '../database/shortLocks.ts';
import type { Queryable } from '../database/types.ts';
import type { EventRef, EventType, FeedEvent } from '../model/event.ts';
import { firstIdAt } from '../model/ids.ts';
import { SYSTEM_RETRIES } from '../resilience/limits.ts';
import { retry } from '../resilience/retry.ts';
import { runConcurrently } from '../util/parallel.ts';

const DAY_MS = 86_400_000;
const WEEK_MS = 7 * DAY_MS;
/** 1970-01-05 was a Monday. */
const MONDAY_MS = 4 * DAY_MS;
const WEEKS_AHEAD = 4;

/**
 * Updates each event by its key alone. In: ids and aggregates, as arrays. With a range of ids in
 * the condition the planner would expect a single row, because its statistics lack the newest ids,
 * and compare each event with each.
 */
const MARK = `
  update events e set dispatched_at = now()
  from unnest($1::bigint[], $2::bigint[]) d(id, aggregate_id)
  where e.aggregate_id = d.aggregate_id and e.id = d.id`;

/** Citus finds the shard by the last condition, which is redundant otherwise. */
const MARK_DISPATCHED = { postgres: MARK, citus: `${MARK} and e.aggregate_id = any($2)` };

/** Shards that are written concurrently. */
const SHARD_CONCURRENCY = 4;

export async function markDispatched(db: Database, events: readonly EventRef[]): Promise<void> {
  const sharding = await db.sharding();
  const statement = sharding.pick(MARK_DISPATCHED);
  // One order prevents deadlocks with the sweeper, which may update some of these events at the
  // same time.
  const inOrder = events.toSorted((a, b) => a.aggregateId - b.aggregateId || a.id - b.id);
  const groups = sharding.group(inOrder, (event) => event.aggregateId);
  await runConcurrently(groups, SHARD_CONCURRENCY, (group) => {
    const values = [group.map((event) => event.id), group.map((event) => event.aggregateId)];
    return retry(() => db.query(statement, values), { ...SYSTEM_RETRIES, dependency: 'database' });
  });
}

/**
 * Returns the oldest events that were committed at least `minAgeMs` ago and that no bus has
 * confirmed.
 */
export async function undispatchedEvents(
  db: Queryable,
  minAgeMs: number,
  limit: number,
): Promise<(EventRef & { occurredAtMs: number; traceparent: string | null })[]> {
  const { rows } = await db.query<EventRef & { occurredAtMs: number; traceparent: string | null }>(
    `select id, type, aggregate_id as "aggregateId", subject_id as "subjectId", traceparent,
            extract(epoch from occurred_at)::float8 * 1000 as "occurredAtMs"
     from events where dispatched_at is null and occurred_at < clock_timestamp() - $1 * interval '1 ms'
     order by id limit $2`,
    [minAgeMs, limit],
  );
  return rows;
}

export async function anyUndispatched(db: Queryable, lastId: number): Promise<boolean> {
  const { rowCount } = await db.query(
    'select 1 from events where dispatched_at is null and id <= $1 limit 1',
    [lastId],
  );
  return rowCount === 1;
}

/** Returns the number of the author's posts in the log, including deleted ones. Reads one shard. */
export async function countPosted(db: Queryable, authorId: number): Promise<number> {
  const { rows } = await db.query<{ count: number }>(
    `select count(*)::integer as count from events where aggregate_id = $1 and type = 'post.created'`,
    [authorId],
  );
  return rows[0]!.count;
}

const LOCK_PARTITIONS = `select pg_advisory_xact_lock(hashtext('events partitions'))`;

/** Does not use to_regclass, which may answer with the state before the wait for the lock. */
const FIND_PARTITION = `
  select 1 from pg_inherits i join pg_class c on c.oid = i.inhrelid
  where i.inhparent = 'events'::regclass and c.relname = $1`;

/**
 * Moves rows from the default partition to a new one. Without a worker for weeks, events of this
 * week are there, and the server refuses a partition with existing rows. Inserts wait for the lock
 * and then continue in the new partition.
 */
const attachPartition = (name: string, fromMs: number): string[] => {
  const [low, high] = [firstIdAt(fromMs), firstIdAt(fromMs + WEEK_MS)];
  // Separate statements, because Citus sends each to every node. The attached table is distributed
  // as `events` is.
  return [
    `create table ${name} (like events including all)`,
    'lock table events_default in access exclusive mode',
    `insert into ${name} select * from events_default where id >= ${low} and id < ${high}`,
    `delete from events_default where id >= ${low} and id < ${high}`,
    `alter table events attach partition ${name} for values from (${low}) to (${high})`,
  ];
};

/**
 * Creates the weekly partitions from this week to four weeks ahead. Rows of other weeks go to the
 * default partition. Throws SCHEMA_LOCKED after `wait`.
 */
export async function ensureEventPartitions(
  db: Database,
  nowMs: number = Date.now(),
  wait: LockWait = {},
): Promise<void> {
  const monday = Math.floor((nowMs - MONDAY_MS) / WEEK_MS) * WEEK_MS + MONDAY_MS;
  for (let week = 0; week <= WEEKS_AHEAD; week += 1) {
    const from = monday + week * WEEK_MS;
    const name = `events_${new Date(from).toISOString().slice(0, 10).replaceAll('-', '')}`;
    if ((await db.query(FIND_PARTITION, [name])).rowCount) continue;
    // Two processes may get here concurrently. The second one finds the partition.
    const attach = (limit: LimitLocks) =>
      db.transaction(async (session) => {
        await session.query(LOCK_PARTITIONS);
        if ((await session.query(FIND_PARTITION, [name])).rowCount) return;
        await limit(session, 'local');
        for (const statement of attachPartition(name, from)) await session.query(statement);
      });
    await withShortLocks(db, attach, wait);
  }
}

/**
 * Drops the weekly partitions that ended more than `keepDays` ago. Returns their names. Throws
 * SCHEMA_LOCKED after `wait`: a drop locks all events for a moment.
 */
export async function dropOldEventPartitions(
  db: Database,
  keepDays: number,
  nowMs: number = Date.now(),
  wait: LockWait = {},
): Promise<string[]> {
  const { rows } = await db.query<{ name: string }>(
    `select inhrelid::regclass::text as name from pg_inherits
     where inhparent = 'events'::regclass and inhrelid::regclass::text ~ '^events_\\d{8}$'`,
  );
  const old = rows.filter(({ name }) => {
    const [, year, month, day] = /^events_(\d{4})(\d\d)(\d\d)$/.exec(name)!.map(Number);
    return Date.UTC(year!, month! - 1, day!) + WEEK_MS + keepDays * DAY_MS < nowMs;
  });
  for (const { name } of old) {
    // Drops one at a time: two drops on several nodes could deadlock.
    const drop = (limit: LimitLocks) =>
      db.transaction(async (session) => {
        await session.query(LOCK_PARTITIONS);
        await limit(session, 'local');
        await session.query(`drop table if exists ${name}`);
      });
    await withShortLocks(db, drop, wait);
  }
  return old.map(({ name }) => name);
}

const LISTED = `id, type, aggregate_id as "aggregateId", subject_id as "subjectId",
  occurred_at as "occurredAt", data, dispatched_at as "dispatchedAt"`;

interface EventFilter {
  readonly userId?: number;
  readonly type?: EventType;
}

type ListedRow = FeedEvent & { dispatchedAt: Date | null };

const FILTER = '($1::bigint is null or aggregate_id = $1) and ($2::text is null or type = $2)';

/** Selects events with ids from..to-1, of one user as aggregate, of some types. */
export interface EventRange {
  readonly from: number;
  readonly to: number;
  readonly userId?: number;
  readonly types?: readonly EventType[];
  /**
   * Only events of posts with ids in this range. The ids of imported posts hold the post's own
   * time.
   */
  readonly posts?: { readonly from: number; readonly to: number };
}

/** In: from, to, user, types, first post, the id after the last post. Null for any. */
const IN_RANGE = `id >= $1 and id < $2 and ($3::bigint is null or aggregate_id = $3)
  and ($4::text[] is null or type = any($4))
  and ($5::bigint is null or type like 'post.%' and subject_id >= $5 and subject_id < $6::bigint)`;

const rangeValues = ({ from, to, userId, types, posts }: EventRange) => [
  from,
  to,
  userId ?? null,
  types ?? null,
  posts?.from ?? null,
  posts?.to ?? null,
];

/** Identifies an event by its subject. */
export type EventAbout = Pick<EventRef, 'type' | 'aggregateId' | 'subjectId'>;

/** The first and the last of some events. */
export interface EventSpan {
  readonly fromId: number;
  readonly toId: number;
}

/**
 * Returns the span of events. In: types, aggregates and subjects, as arrays. Citus finds the shard
 * by the last condition, which is redundant otherwise.
 */
const SPAN = `
  select min(e.id) as "fromId", max(e.id) as "toId"
  from unnest($1::text[], $2::bigint[], $3::bigint[]) d(type, aggregate_id, subject_id)
  join events e on e.aggregate_id = d.aggregate_id and e.subject_id = d.subject_id and e.type = d.type
  where e.aggregate_id = any($2)`;

/**
 * Returns the span of the events about these subjects in the log. Returns null if the log has none.
 */
export async function eventsAbout(db: Database, about: readonly EventAbout[]): Promise<EventSpan | null> {
  const sharding = await db.sharding();
  const groups = about.length > 0 ? sharding.group(about, (one) => one.aggregateId) : [];
  const found = await runConcurrently(groups, SHARD_CONCURRENCY, async (group) => {
    const { rows } = await db.query<{ fromId: number | null; toId: number | null }>(SPAN, [
      group.map((one) => one.type),
      group.map((one) => one.aggregateId),
      group.map((one) => one.subjectId),
    ]);
    const { fromId, toId } = rows[0]!;
    return fromId === null || toId === null ? [] : [{ fromId, toId }];
  });
  const spans = found.flat();
  if (spans.length === 0) return null;
  return {
    fromId: Math.min(...spans.map((span) => span.fromId)),
    toId: Math.max(...spans.map((span) => span.toId)),
  };
}

/** Returns the oldest events of a range. */
export async function eventsInRange(
  db: Queryable,
  range: EventRange,
  limit: number,
): Promise<(EventRef & { occurredAtMs: number })[]> {
  const { rows } = await db.query<EventRef & { occurredAtMs: number }>(
    `select id, type, aggregate_id as "aggregateId", subject_id as "subjectId",
            extract(epoch from occurred_at)::float8 * 1000 as "occurredAtMs"
     from events where ${IN_RANGE} order by id limit $7`,
    [...rangeValues(range), limit],
  );
  return rows;
}

export async function countEvents(
  db: Queryable,
  range: EventRange,
): Promise<Partial<Record<EventType, number>>> {
  const { rows } = await db.query<{ type: EventType; count: number }>(
    `select type, count(*) as count from events where ${IN_RANGE} group by type`,
    rangeValues(range),
  );
  return Object.fromEntries(rows.map(({ type, count }) => [type, count]));
}

/** Time windows that are searched one after the other until there are enough events. */
const WINDOWS_MS = [60_000, 3_600_000, DAY_MS, Number.POSITIVE_INFINITY];

/** Returns the newest matching events, in the order of their creation. */
export async function lastEvents(
  db: Queryable,
  query: EventFilter & { limit: number },
): Promise<ListedRow[]> {
  for (const window of WINDOWS_MS) {
    const from = window === Number.POSITIVE_INFINITY ? 0 : firstIdAt(Date.now() - window);
    const { rows } = await db.query<ListedRow>(
      `select * from (
         select ${LISTED} from events where ${FILTER} and id >= $3 order by id desc limit $4) newest
       order by id`,
      [query.userId ?? null, query.type ?? null, from, query.limit],
    );
    if (rows.length === query.limit || from === 0) return rows;
  }
  return [];
}

export async function eventsAfter(db: Queryable, id: number, query: EventFilter): Promise<ListedRow[]> {
  const { rows } = await db.query<ListedRow>(
    `select ${LISTED} from events where ${FILTER} and id >= $3 order by id limit 10000`,
    [query.userId ?? null, query.type ?? null, id],
  );
  return rows;
}
