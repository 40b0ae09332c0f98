import type { Queryable } from '../../database/types.ts';

/** Longest text of a statement in a snapshot. */
const MAX_STATEMENT = 300;
const MAX_ROWS = 10;
const MAX_PARTITIONS = 50;

/** A session that waits for a lock, and those that hold it. */
export interface BlockedSession {
  readonly pid: number;
  readonly user: string;
  readonly application: string;
  readonly waitsSeconds: number;
  readonly blockedBy: readonly number[];
  readonly statement: string;
  /** State and last statement of the first session that holds the lock. */
  readonly blocker: string;
}

/** A statement that runs now. */
export interface RunningStatement {
  readonly pid: number;
  readonly user: string;
  readonly application: string;
  readonly state: string;
  readonly seconds: number;
  readonly waitsFor: string | null;
  readonly statement: string;
}

/** A kind of statement, of `pg_stat_statements`. */
export interface SlowStatement {
  readonly statement: string;
  readonly calls: number;
  readonly meanMs: number;
  readonly totalSeconds: number;
}

/** A partition of feed rows at the server that was asked. */
export interface PartitionSize {
  readonly name: string;
  readonly bytes: number;
  /** By the statistics of the server. */
  readonly rows: number;
}

export interface SessionCount {
  readonly state: string;
  readonly count: number;
}

/** Work of the database server. A rate is null in the first view, because it needs an earlier one. */
export interface DatabaseActivity {
  readonly version: string;
  /** Sessions of this database by state: `active`, `idle`, `idle in transaction` and so on. */
  readonly sessions: readonly SessionCount[];
  readonly maxSessions: number;
  readonly commitsPerSecond: number | null;
  readonly rollbacksPerSecond: number | null;
  readonly rowsWrittenPerSecond: number | null;
  /** null on a standby too. */
  readonly walBytesPerSecond: number | null;
  /** Share of pages that were in memory, since the view before, or else since the server started. */
  readonly cacheHitShare: number | null;
  readonly deadlocks: number;
  readonly temporaryBytes: number;
  /** Sessions that wait for locks. */
  readonly blocked: readonly BlockedSession[];
  readonly longest: readonly RunningStatement[];
  /** null: the extension pg_stat_statements is missing, or this role must not read it. */
  readonly slowest: readonly SlowStatement[] | null;
  readonly partitions: readonly PartitionSize[];
}

interface Counters {
  readonly atMs: number;
  readonly commits: number;
  readonly rollbacks: number;
  readonly written: number;
  readonly hits: number;
  readonly reads: number;
  readonly wal: number | null;
}

const COUNTERS = `
  select extract(epoch from clock_timestamp())::float8 * 1000 as "atMs",
         xact_commit::float8 as commits, xact_rollback::float8 as rollbacks,
         (tup_inserted + tup_updated + tup_deleted)::float8 as written,
         blks_hit::float8 as hits, blks_read::float8 as reads,
         deadlocks::float8 as deadlocks, temp_bytes::float8 as "temporaryBytes",
         case when pg_is_in_recovery() then null
           else pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8 end as wal,
         current_setting('server_version') as version,
         current_setting('max_connections')::integer as "maxSessions"
  from pg_stat_database where datname = current_database()`;

const SESSIONS = `
  select coalesce(state, 'unknown') as state, count(*)::integer as count
  from pg_stat_activity where datname = current_database() and backend_type = 'client backend'
  group by 1 order by 1`;

const STATEMENT = (column: string) => `regexp_replace(left(${column}, ${MAX_STATEMENT}), '\\s+', ' ', 'g')`;

/** Looks for holders of those sessions alone that wait: the look takes the locks of the lock table. */
const BLOCKED = `
  select a.pid, coalesce(a.usename, 'unknown') as "user", a.application_name as application,
         extract(epoch from clock_timestamp() - a.state_change)::float8 as "waitsSeconds",
         b.pids as "blockedBy", ${STATEMENT('a.query')} as statement,
         coalesce((select coalesce(h.state, 'unknown') || ': ' || ${STATEMENT('h.query')}
                   from pg_stat_activity h where h.pid = b.pids[1]), 'unknown') as blocker
  from pg_stat_activity a cross join lateral (select pg_blocking_pids(a.pid) as pids) b
  where a.datname = current_database() and a.wait_event_type = 'Lock'
  order by a.state_change limit ${MAX_ROWS}`;

const LONGEST = `
  select pid, coalesce(usename, 'unknown') as "user", application_name as application, state,
         extract(epoch from clock_timestamp() -
           case when state = 'active' then query_start else state_change end)::float8 as seconds,
         case when state = 'active' then wait_event_type || ' ' || wait_event end as "waitsFor",
         ${STATEMENT('query')} as statement
  from pg_stat_activity
  where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()
    and state in ('active', 'idle in transaction', 'idle in transaction (aborted)')
  order by seconds desc nulls last limit ${MAX_ROWS}`;

const HAS_STATEMENTS = `select n.nspname as schema from pg_extension e
  join pg_namespace n on n.oid = e.extnamespace where e.extname = 'pg_stat_statements'`;

const slowestIn = (schema: string): string => `
  select ${STATEMENT('query')} as statement, calls::float8 as calls, mean_exec_time as "meanMs",
         total_exec_time / 1000 as "totalSeconds"
  from "${schema.replaceAll('"', '""')}".pg_stat_statements
  where dbid = (select oid from pg_database where datname = current_database())
  order by total_exec_time desc limit ${MAX_ROWS}`;

const PARTITIONS = `
  select c.relname as name, pg_total_relation_size(c.oid)::float8 as bytes,
         coalesce(s.n_live_tup, 0)::float8 as rows
  from pg_inherits i join pg_class c on c.oid = i.inhrelid
  left join pg_stat_user_tables s on s.relid = c.oid
  where i.inhparent = to_regclass('feed_items') order by c.relname desc limit ${MAX_PARTITIONS}`;

type Facts = Pick<DatabaseActivity, 'version' | 'maxSessions' | 'deadlocks' | 'temporaryBytes'>;

/** Returns a function that looks at the database. Its rates are those since the look before. */
export function databaseWatch(): (db: Queryable) => Promise<DatabaseActivity> {
  let before: Counters | undefined;
  return async (db) => {
    const rowsOf = async <Row extends object>(text: string): Promise<Row[]> =>
      (await db.query<Row & Record<string, unknown>>(text)).rows;
    const [now] = await rowsOf<Counters & Facts>(COUNTERS);
    const activity = {
      ...ratesBetween(before, now!),
      version: now!.version,
      maxSessions: now!.maxSessions,
      deadlocks: now!.deadlocks,
      temporaryBytes: now!.temporaryBytes,
      sessions: await rowsOf<SessionCount>(SESSIONS),
      blocked: await rowsOf<BlockedSession>(BLOCKED),
      longest: await rowsOf<RunningStatement>(LONGEST),
      slowest: await slowestStatements(rowsOf),
      partitions: await rowsOf<PartitionSize>(PARTITIONS),
    };
    before = now;
    return activity;
  };
}

/** Returns null without the extension. A library that is not loaded makes its view fail. */
async function slowestStatements(
  rowsOf: <Row extends object>(text: string) => Promise<Row[]>,
): Promise<SlowStatement[] | null> {
  const [extension] = await rowsOf<{ schema: string }>(HAS_STATEMENTS);
  if (!extension) return null;
  return rowsOf<SlowStatement>(slowestIn(extension.schema)).catch(() => null);
}

/** Rates between two looks. Counters that went back are those of a server that was reset. */
export function ratesBetween(
  before: Counters | undefined,
  now: Counters,
): Pick<
  DatabaseActivity,
  'commitsPerSecond' | 'rollbacksPerSecond' | 'rowsWrittenPerSecond' | 'walBytesPerSecond' | 'cacheHitShare'
> {
  const seconds = before ? (now.atMs - before.atMs) / 1_000 : 0;
  const rate = (of: (counters: Counters) => number | null): number | null => {
    const [first, last] = [before ? of(before) : null, of(now)];
    if (first === null || last === null || seconds <= 0 || last < first) return null;
    return (last - first) / seconds;
  };
  const share = (hits: number, reads: number) => (hits + reads > 0 ? hits / (hits + reads) : null);
  const hits = now.hits - (before?.hits ?? 0);
  const reads = now.reads - (before?.reads ?? 0);
  const isReset = hits < 0 || reads < 0;
  return {
    commitsPerSecond: rate(({ commits }) => commits),
    rollbacksPerSecond: rate(({ rollbacks }) => rollbacks),
    rowsWrittenPerSecond: rate(({ written }) => written),
    walBytesPerSecond: rate(({ wal }) => wal),
    cacheHitShare: isReset ? share(now.hits, now.reads) : share(hits, reads),
  };
}
