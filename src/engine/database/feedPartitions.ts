import { firstIdAt, MAX_ID, timeOfId } from '../model/ids.ts';
import type { Database } from './database.ts';
import { onEveryNode } from './nodes.ts';
import { citusVersion, type Store } from './sharding.ts';
import { type LimitLocks, type LockWait, withShortLocks } from './shortLocks.ts';
import type { Queryable, Session } from './types.ts';

/*
 * `feed_items` is partitioned by post id, which is ordered by time. New rows go to the newest partition. Its
 * index stays small, whatever the table holds, so a row costs the same at any size.
 *
 *     feed_items_before     everything before the table was partitioned, and few imported older posts
 *     feed_items_20120701t00_import, …   imported older posts, if they are many
 *     feed_items_20261130t06, …   some hours to a week each, made ahead of time
 *     feed_items_after      everything later: almost always empty
 *
 * The first and the last have no bound, so each row has a partition. A default partition would do that too,
 * but PostgreSQL then reads all partitions for a page instead of the newest ones.
 */

const BEFORE = 'feed_items_before';
const AFTER = 'feed_items_after';
/** Holds new rows back from the partition of the old ones, until the table is partitioned. */
const CUT_CHECK = 'feed_items_cut';

/** Part of the names of partitions that were made for an import. */
const IMPORTED = '_import';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** Rows of a partition whose index and heap stay in memory: about 2 GB. */
const TARGET_ROWS = 20_000_000;
const WIDTH_MS = { first: 6 * HOUR_MS, least: HOUR_MS, most: 7 * DAY_MS } as const;
/** Whole partitions after the one that is written now. */
const AHEAD = 2;
/** Partitions ahead that are so many times too wide are made again, unless they begin within the margin. */
const TOO_WIDE = 4;
const MARGIN_MS = 600_000;
/** A rate over less time says little. */
const MIN_RATE_MS = 60_000;
/** A bigger table is checked before it is locked: about a second for each million rows. */
const SMALL_PAGES = 20_000;
/** Time that checking and partitioning a big table may take. Until then new rows go to the old partition. */
const CUT_MARGIN_MS = 7 * DAY_MS;
/** A check that ends sooner is left by an attempt that was killed long ago. */
const STALE_CUT_MS = HOUR_MS;

const LOCK = `select pg_advisory_xact_lock(hashtext('feed partitions'))`;

const DATABASE_NOW_MS = `extract(epoch from clock_timestamp())::float8 * 1000`;

export interface FeedPartition {
  readonly name: string;
  /** First post id, or 0. */
  readonly from: number;
  /** The id after the last one, or Infinity. */
  readonly to: number;
}

/** Returns true if `feed_items` exists and is not partitioned yet. */
export async function isFeedTableWhole(db: Queryable): Promise<boolean> {
  const { rowCount } = await db.query(
    `select 1 from pg_class where oid = to_regclass('feed_items') and relkind = 'r'`,
  );
  return rowCount === 1;
}

/**
 * Makes the table of feed rows the first partition of a partitioned one. No row is written again. A big
 * table is checked first, which holds up no statement; a later call continues after an interruption.
 * Throws SCHEMA_LOCKED.
 */
export async function partitionFeedTable(
  db: Database,
  wait: LockWait = {},
  { smallPages = SMALL_PAGES }: { smallPages?: number } = {},
): Promise<boolean> {
  if (!(await isFeedTableWhole(db))) return false;
  if (await isBig(db, smallPages)) await checkCut(db, wait);
  const attempt = (limit: LimitLocks) =>
    db.transaction(async (session) => {
      await session.query(LOCK);
      if (!(await isFeedTableWhole(session))) return false;
      await limit(session, 'local');
      await session.query('lock table feed_items in access exclusive mode');
      const cut = (await readCut(session))?.id ?? (await cutAfterRows(session));
      await swap(session, cut);
      return true;
    });
  return withShortLocks(db, attempt, wait);
}

/** On Citus the table of the coordinator is empty: a distributed table with rows counts as big. */
async function isBig(db: Queryable, smallPages: number): Promise<boolean> {
  if (await isFeedTableDistributed(db)) return hasRows(db, 'feed_items');
  const { rows } = await db.query<{ pages: number }>(
    `select relpages as pages from pg_class where oid = 'feed_items'::regclass`,
  );
  return rows[0]!.pages > smallPages;
}

const hasRows = async (db: Queryable, table: string): Promise<boolean> =>
  (await db.query(`select 1 from ${table} limit 1`)).rowCount === 1;

interface Cut {
  readonly id: number;
  readonly validated: boolean;
}

async function readCut(db: Queryable): Promise<Cut | undefined> {
  const { rows } = await db.query<{ definition: string; validated: boolean }>(
    `select pg_get_constraintdef(oid) as definition, convalidated as validated from pg_constraint
     where conrelid = 'feed_items'::regclass and conname = '${CUT_CHECK}'`,
  );
  const row = rows[0];
  return row && { id: Number(/(\d{6,})/.exec(row.definition)![1]), validated: row.validated };
}

/** The first id after all rows. The caller's lock keeps other rows away. */
async function cutAfterRows(session: Session): Promise<number> {
  const { rows } = await session.query<{ now: number; last: number }>(
    `select ${DATABASE_NOW_MS} as now, coalesce(max(post_id), 0) as last from feed_items`,
  );
  return Math.max(firstIdAt(Math.ceil(rows[0]!.now)), rows[0]!.last + 1);
}

/** Adds a check that a later attachment needs, so that it does not read the table under its lock. */
async function checkCut(db: Database, wait: LockWait): Promise<void> {
  for (let least = 0; ; ) {
    const cut = await addCut(db, least, wait);
    if (cut.validated) return;
    try {
      await db.query(`alter table feed_items validate constraint ${CUT_CHECK}`);
      return;
    } catch (error) {
      // Posts may have been imported with a time far ahead.
      if (!isCheckViolation(error) || least > 0) throw error;
      await dropCut(db, wait);
      const { rows } = await db.query<{ last: number }>('select max(post_id) as last from feed_items');
      least = rows[0]!.last + 1;
    }
  }
}

const isCheckViolation = (error: unknown): boolean =>
  (((error as Error).cause ?? error) as { code?: string }).code === '23514';

async function addCut(db: Database, least: number, wait: LockWait): Promise<Cut> {
  const attempt = (limit: LimitLocks) =>
    db.transaction(async (session) => {
      await session.query(LOCK);
      const { rows } = await session.query<{ now: number }>(`select ${DATABASE_NOW_MS} as now`);
      const now = Math.ceil(rows[0]!.now);
      const found = await readCut(session);
      if (found && found.id > firstIdAt(now + STALE_CUT_MS)) return found;
      await limit(session, 'local');
      if (found) await session.query(`alter table feed_items drop constraint ${CUT_CHECK}`);
      const id = Math.max(least, firstIdAt(now + CUT_MARGIN_MS));
      await session.query(
        `alter table feed_items add constraint ${CUT_CHECK} check (post_id < ${id}) not valid`,
      );
      return { id, validated: false };
    });
  return withShortLocks(db, attempt, wait);
}

async function dropCut(db: Database, wait: LockWait): Promise<void> {
  const attempt = (limit: LimitLocks) =>
    db.transaction(async (session) => {
      await limit(session, 'local');
      await session.query(`alter table feed_items drop constraint if exists ${CUT_CHECK}`);
    });
  await withShortLocks(db, attempt, wait);
}

/** Privileges that an operator has granted on the old table. */
const GRANTS = `
  select format('grant %s on feed_items to %s', a.privilege_type,
                case a.grantee when 0 then 'public' else a.grantee::regrole::text end) as statement
  from pg_class c, aclexplode(c.relacl) a
  where c.oid = '${BEFORE}'::regclass and a.grantee <> c.relowner`;

async function isFeedTableDistributed(db: Queryable): Promise<boolean> {
  if ((await citusVersion(db)) === undefined) return false;
  const { rowCount } = await db.query(
    `select 1 from pg_dist_partition where logicalrelid = 'feed_items'::regclass`,
  );
  return rowCount === 1;
}

async function swap(session: Session, cut: number): Promise<void> {
  const isDistributed = await isFeedTableDistributed(session);
  await session.query(`alter table feed_items rename to ${BEFORE}`);
  await session.query(`alter index feed_items_pkey rename to ${BEFORE}_pkey`);
  await session.query(`
    create table feed_items (
      user_id   bigint not null,
      post_id   bigint not null,
      author_id bigint not null,
      primary key (user_id, post_id)
    ) partition by range (post_id)`);
  if (isDistributed)
    await session.query(`select create_distributed_table('feed_items', 'user_id', colocate_with => 'users')`);
  await session.query(
    `alter table feed_items attach partition ${BEFORE} for values from (minvalue) to (${cut})`,
  );
  await session.query(`alter table ${BEFORE} drop constraint if exists ${CUT_CHECK}`);
  await session.query(`create table ${AFTER} (like feed_items including all)`);
  await session.query(
    `alter table feed_items attach partition ${AFTER} for values from (${cut}) to (maxvalue)`,
  );
  const { rows } = await session.query<{ statement: string }>(GRANTS);
  for (const { statement } of rows) await session.query(statement);
}

/** Returns the partitions in the order of their posts. */
export async function feedPartitions(db: Queryable): Promise<FeedPartition[]> {
  const { rows } = await db.query<{ name: string; bound: string | null }>(
    `select c.relname as name, pg_get_expr(c.relpartbound, c.oid) as bound
     from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'feed_items'::regclass`,
  );
  // The statement waits for a change of the partitions. Those that it removed have no bound then.
  if (rows.some(({ bound }) => bound === null)) return feedPartitions(db);
  const partitions = rows.map(({ name, bound }): FeedPartition => {
    const [, from, to] = /FROM \('?(\w+)'?\) TO \('?(\w+)'?\)/.exec(bound!)!;
    return {
      name,
      from: from === 'MINVALUE' ? 0 : Number(from),
      to: to === 'MAXVALUE' ? Number.POSITIVE_INFINITY : Number(to),
    };
  });
  return partitions.sort((a, b) => a.from - b.from);
}

/** What the statistics of the servers say about a partition. */
export interface PartitionSize {
  /** With indexes. */
  readonly bytes: number;
  /** Estimate of the rows that are there. */
  readonly rows: number;
  /** Rows that were ever inserted, at least. */
  readonly inserted: number;
}

/** Sizes by the name of the partition, as the statements return them. */
export type Sizes = Record<string, [bytes: number, rows: number, inserted: number]>;

/** The counts of the statistics are 0 after a crash of the server; the estimate of its planner stays. */
const FIGURES = `
  pg_total_relation_size(c.oid),
  greatest(pg_stat_get_live_tuples(c.oid), c.reltuples::bigint, 0),
  greatest(pg_stat_get_tuples_inserted(c.oid), c.reltuples::bigint, 0)`;

export const SIZES = `
  select coalesce(json_object_agg(c.relname, json_build_array(${FIGURES})), '{}') as sizes
  from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'feed_items'::regclass`;

/** Runs at each node. Sums the shards of each partition there. */
export const NODE_SIZES = `
  select coalesce(json_object_agg(name, json_build_array(bytes, rows, inserted)), '{}') from (
    select s.logicalrelid::text as name,
           sum(f.bytes) as bytes, sum(f.rows) as rows, sum(f.inserted) as inserted
    from pg_inherits i join pg_dist_shard s on s.logicalrelid = i.inhrelid
    join pg_dist_placement p using (shardid)
    join pg_class c on c.oid = to_regclass(shard_name(s.logicalrelid, s.shardid))
    cross join lateral (select ${FIGURES}) f(bytes, rows, inserted)
    where i.inhparent = 'feed_items'::regclass
      and p.groupid = (select groupid from pg_dist_local_group)
    group by s.logicalrelid) sums`;

/** Returns the sizes of the partitions by name, without those of nodes that do not answer. */
export async function feedPartitionSizes(db: Store): Promise<Map<string, PartitionSize>> {
  const { distributed } = await db.sharding();
  const parts: Iterable<Sizes> = distributed
    ? (await onEveryNode<Sizes>(db, NODE_SIZES)).values()
    : (await db.query<{ sizes: Sizes }>(SIZES)).rows.map(({ sizes }) => sizes);
  return sumSizes(parts);
}

/** Adds up the parts that the servers hold. */
export function sumSizes(parts: Iterable<Sizes>): Map<string, PartitionSize> {
  const sums = new Map<string, PartitionSize>();
  for (const part of parts)
    for (const [name, [bytes, rows, inserted]] of Object.entries(part)) {
      const sum = sums.get(name) ?? { bytes: 0, rows: 0, inserted: 0 };
      sums.set(name, {
        bytes: sum.bytes + bytes,
        rows: sum.rows + rows,
        inserted: sum.inserted + inserted,
      });
    }
  return sums;
}

/** The partitions in short. Times in unix milliseconds. */
export interface FeedPartitionState {
  readonly count: number;
  /** Rows of all of them, by the servers' statistics. */
  readonly rows: number;
  /** Bytes of all of them, with indexes. */
  readonly bytes: number;
  /** Rows of the partition of the present time, by the servers' statistics. */
  readonly newestRows: number;
  /** Begin of the oldest one that has a begin. */
  readonly oldestMs: number | undefined;
  /** Begin of the last one, which takes all later posts. A worker moves it before it is reached. */
  readonly endMs: number;
}

/** `known`: sizes that the caller has read already. */
export async function feedPartitionState(
  db: Store,
  nowMs: number,
  known?: Map<string, PartitionSize>,
): Promise<FeedPartitionState> {
  const partitions = await feedPartitions(db);
  const sizes = known ?? (await feedPartitionSizes(db));
  const sum = (of: 'rows' | 'bytes') => [...sizes.values()].reduce((total, size) => total + size[of], 0);
  const newest = partitions.findLast(({ from }) => from <= firstIdAt(Math.floor(nowMs)));
  const oldest = partitions.slice(1, -1).at(0);
  return {
    count: partitions.length,
    rows: sum('rows'),
    bytes: sum('bytes'),
    newestRows: sizes.get(newest?.name ?? '')?.rows ?? 0,
    oldestMs: oldest && timeOfId(oldest.from),
    endMs: timeOfId(partitions.at(-1)!.from),
  };
}

/**
 * Makes partitions ahead of `nowMs`, each for about 20 million rows at the present rate. Throws
 * SCHEMA_LOCKED after `wait`.
 */
export async function ensureFeedPartitions(db: Database, nowMs: number, wait: LockWait = {}): Promise<void> {
  const now = firstIdAt(Math.floor(nowMs));
  if ((await feedPartitions(db)).filter(({ from, to }) => from > now && to <= MAX_ID).length >= AHEAD) return;
  const widthMs = await nextWidth(db, now);
  for (;;) {
    const partitions = await feedPartitions(db);
    const last = partitions.at(-1)!;
    if (partitions.filter(({ from, to }) => from > now && to <= MAX_ID).length >= AHEAD) return;
    // A cluster that was down for months starts at the present time.
    const from = last.from;
    const firstMs = Math.max(timeOfId(from), nowMs - widthMs);
    const to = firstIdAt(Math.ceil((firstMs + widthMs) / HOUR_MS) * HOUR_MS);
    if (to > MAX_ID) return;
    await addFeedPartition(db, { name: nameOf(timeOfId(from), partitions), from, to }, wait);
  }
}

/** Names a partition by the hour of its first post, such as feed_items_20261130t06. */
function nameOf(firstMs: number, others: readonly FeedPartition[], suffix = ''): string {
  const hour = new Date(firstMs).toISOString().slice(0, 13).replaceAll('-', '').replace('T', 't');
  const name = `feed_items_${hour}${suffix}`;
  const taken = new Set(others.map((other) => other.name));
  for (let n = 0; ; n += 1) {
    const free = n === 0 ? name : `${name}_${n}`;
    if (!taken.has(free)) return free;
  }
}

/**
 * Returns the milliseconds in which TARGET_ROWS come at the present rate: the higher one of the two newest
 * partitions that have been written.
 */
async function nextWidth(db: Store, now: number): Promise<number> {
  const partitions = await feedPartitions(db);
  // The rows of an import came at once, whatever time their posts have.
  const started = partitions
    .filter(({ name, from }) => from > 0 && from <= now && !name.includes(IMPORTED))
    .slice(-2);
  if (started.length === 0) return WIDTH_MS.first;
  const sizes = await feedPartitionSizes(db);
  const rates = started.map(({ name, from, to }) => {
    const writtenMs = Math.max(MIN_RATE_MS, timeOfId(Math.min(now, to)) - timeOfId(from));
    return (sizes.get(name)?.inserted ?? 0) / writtenMs;
  });
  const target = await targetPartitionRows(db);
  return Math.min(WIDTH_MS.most, Math.max(WIDTH_MS.least, target / Math.max(...rates)));
}

/** Returns the number of rows that a partition should have. Each node of Citus has an equal part of them. */
export async function targetPartitionRows(db: Store): Promise<number> {
  const nodes = new Set((await db.sharding()).shards.map(({ node }) => `${node?.host}:${node?.port}`)).size;
  return TARGET_ROWS * Math.max(1, nodes);
}

/**
 * Removes partitions ahead that have become much too wide for the present rate. `ensureFeedPartitions` then
 * makes narrower ones. Throws SCHEMA_LOCKED after `wait`.
 */
export async function removeWideFeedPartitions(
  db: Database,
  nowMs: number,
  wait: LockWait = {},
): Promise<void> {
  const widest = TOO_WIDE * (await nextWidth(db, firstIdAt(Math.floor(nowMs))));
  for (;;) {
    const last = (await feedPartitions(db)).at(-2);
    if (!last || last.from <= firstIdAt(Math.floor(nowMs + MARGIN_MS))) return;
    if (timeOfId(last.to) - timeOfId(last.from) <= widest) return;
    if (!(await removeLast(db, last, wait))) return;
  }
}

/** Gives the range of the last partition with two bounds to the one without an end, if it has no rows. */
async function removeLast(db: Database, { name, from }: FeedPartition, wait: LockWait): Promise<boolean> {
  const attempt = (limit: LimitLocks) =>
    db.transaction(async (session) => {
      await session.query(LOCK);
      if ((await feedPartitions(session)).at(-2)?.name !== name) return false;
      await limit(session, 'local');
      await session.query('lock table feed_items in access exclusive mode');
      if (await hasRows(session, name)) return false;
      for (const statement of [
        `alter table feed_items detach partition ${AFTER}`,
        `drop table ${name}`,
        `alter table feed_items attach partition ${AFTER} for values from (${from}) to (maxvalue)`,
      ])
        await session.query(statement);
      return true;
    });
  return withShortLocks(db, attempt, wait);
}

/**
 * Returns the statements that give the rows of posts before `cut` another partition. They are separate,
 * because Citus sends each to every node.
 */
export function dividing(whole: FeedPartition, first: { name: string; cut: number }): string[] {
  const { name, cut } = first;
  const end = whole.to === Number.POSITIVE_INFINITY ? 'maxvalue' : whole.to;
  return [
    `alter table feed_items detach partition ${whole.name}`,
    `create table ${name} (like feed_items including all)`,
    `insert into ${name} select * from ${whole.name} where post_id < ${cut}`,
    `delete from ${whole.name} where post_id < ${cut}`,
    `alter table feed_items attach partition ${name} for values from (${whole.from}) to (${cut})`,
    `alter table feed_items attach partition ${whole.name} for values from (${cut}) to (${end})`,
  ];
}

/**
 * Divides the partition of a post id at this id, if it has no rows. Imports of old posts make their
 * partitions so, because rows could not be moved under a short lock. Throws SCHEMA_LOCKED after `wait`.
 */
export async function divideEmptyFeedPartition(
  db: Database,
  cut: number,
  wait: LockWait = {},
): Promise<void> {
  const inside = (partitions: readonly FeedPartition[]) =>
    partitions.find(({ from, to }) => from < cut && cut < to && to <= MAX_ID);
  const before = inside(await feedPartitions(db));
  // Without the lock first: a range with rows may be long.
  if (!before || (await hasRows(db, before.name))) return;
  const attempt = (limit: LimitLocks) =>
    db.transaction(async (session) => {
      await session.query(LOCK);
      const partitions = await feedPartitions(session);
      const whole = inside(partitions);
      if (!whole) return;
      await limit(session, 'local');
      await session.query('lock table feed_items in access exclusive mode');
      if (await hasRows(session, whole.name)) return;
      const name = nameOf(timeOfId(cut), partitions, IMPORTED);
      const from = whole.from === 0 ? 'minvalue' : whole.from;
      for (const statement of [
        `alter table feed_items detach partition ${whole.name}`,
        `alter table feed_items attach partition ${whole.name} for values from (${from}) to (${cut})`,
        `create table ${name} (like feed_items including all)`,
        `alter table feed_items attach partition ${name} for values from (${cut}) to (${whole.to})`,
      ])
        await session.query(statement);
    });
  await withShortLocks(db, attempt, wait);
}

/** Cuts a partition off the last one, with its rows. Inserts wait for the lock and continue after it. */
export async function addFeedPartition(
  db: Database,
  { name, from, to }: FeedPartition,
  wait: LockWait = {},
): Promise<void> {
  const attempt = (limit: LimitLocks) =>
    db.transaction(async (session) => {
      await session.query(LOCK);
      // Another process may have been here meanwhile.
      if ((await feedPartitions(session)).at(-1)?.from !== from) return;
      await limit(session, 'local');
      const last = { name: AFTER, from, to: Number.POSITIVE_INFINITY };
      for (const statement of dividing(last, { name, cut: to })) await session.query(statement);
    });
  await withShortLocks(db, attempt, wait);
}

/**
 * Removes all rows of posts before `cut`, the upper bound of a partition, and raises every lower floor to the
 * last of these posts. Returns the number of floors. A rebuild or a backfill waits, and then sees the raised
 * floor. Throws SCHEMA_LOCKED after `wait`.
 */
export async function dropFeedPartitionsBefore(
  db: Database,
  cut: number,
  wait: LockWait = {},
): Promise<number> {
  const attempt = (limit: LimitLocks) =>
    db.transaction(async (session) => {
      await session.query(LOCK);
      const old = (await feedPartitions(session)).filter(({ to }) => to <= cut);
      if (old.at(-1)?.to !== cut) return 0;
      await limit(session, 'local');
      // Without it Citus changes rows and tables of one node over several connections.
      await session.query(`set local citus.multi_shard_modify_mode = 'sequential'`);
      await session.query('lock table feed_items in access exclusive mode');
      const raised = await session.query('update users set feed_floor = $1 where feed_floor < $1', [cut - 1]);
      for (const statement of [
        `truncate ${BEFORE}`,
        `alter table feed_items detach partition ${BEFORE}`,
        ...old.filter(({ name }) => name !== BEFORE).map(({ name }) => `drop table ${name}`),
        `alter table feed_items attach partition ${BEFORE} for values from (minvalue) to (${cut})`,
      ])
        await session.query(statement);
      return raised.rowCount ?? 0;
    });
  return withShortLocks(db, attempt, wait);
}
