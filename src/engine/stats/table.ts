import type { Queryable } from '../database/database.ts';
import { HEARTBEAT_TIMEOUT_MS } from '../store/processes.ts';
import type { CacheCounters, ReportedError, StatsReport, WorkerCounters } from './process.ts';

/** State of a process. `cpu`: share of one core since the previous report. */
export interface ProcessState {
  readonly worker: string | null;
  readonly gateway: string | null;
  /** Open WebSockets; null without a gateway. */
  readonly sockets: number | null;
  readonly memoryBytes: number;
  readonly cpu: number;
}

export interface StatsRow extends ProcessState {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  readonly ageMs: number;
  /** Time of the report by the database's clock: unix seconds. */
  readonly seenAt: number;
  readonly figures: StatsReport;
  readonly errors: readonly ReportedError[];
}

/**
 * In: id, host, pid, worker, gateway, sockets, memory, CPU, figures, errors or null if they are
 * unchanged.
 */
const UPSERT = `
  insert into process_figures (id, host, pid, worker, gateway, sockets, memory_bytes, cpu, figures, errors)
  values ($1, $2, $3, $4, $5, $6, $7, $8, $9, coalesce($10::json, '[]'))
  on conflict (id) do update set worker = excluded.worker, gateway = excluded.gateway,
    sockets = excluded.sockets,
    memory_bytes = excluded.memory_bytes, cpu = excluded.cpu, figures = excluded.figures,
    errors = coalesce($10::json, process_figures.errors), seen_at = excluded.seen_at
  returning (xmax = 0) as fresh`;

/** Returns true if the row is new: unchanged errors are missing in it then. */
export async function saveStats(
  db: Queryable,
  process: { id: string; host: string; pid: number },
  state: ProcessState,
  report: { figures: StatsReport; errors: readonly ReportedError[] | undefined },
): Promise<boolean> {
  const { worker, gateway, sockets, memoryBytes, cpu } = state;
  const { rows } = await db.query<{ fresh: boolean }>(UPSERT, [
    ...[process.id, process.host, process.pid, worker, gateway, sockets, memoryBytes, cpu],
    ...[JSON.stringify(report.figures), report.errors ? JSON.stringify(report.errors) : null],
  ]);
  return rows[0]!.fresh;
}

export async function deleteStats(db: Queryable, id: string): Promise<void> {
  await db.query('delete from process_figures where id = $1', [id]);
}

/** Deletes reports of processes that ended without deleting them. */
export async function deleteOldStats(db: Queryable): Promise<void> {
  await db.query("delete from process_figures where seen_at < clock_timestamp() - interval '1 minute'");
}

/**
 * Deletes reports that name a user. A process that was notified of the erasure reports the rest
 * within a second.
 */
export async function deleteStatsOfUser(db: Queryable, userId: number): Promise<void> {
  await db.query(`delete from process_figures where figures::text like '%[' || $1::text || ',%'`, [userId]);
}

/** Returns the reports of processes that are alive: those of the last 15 s. */
export async function readStats(db: Queryable): Promise<StatsRow[]> {
  const { rows } = await db.query<StatsRow>(
    `select id, host, pid, worker, gateway, sockets, memory_bytes as "memoryBytes", cpu, figures, errors,
            extract(epoch from clock_timestamp() - seen_at)::float8 * 1000 as "ageMs",
            extract(epoch from seen_at)::float8 as "seenAt"
     from process_figures where seen_at > clock_timestamp() - $1 * interval '1 ms' order by id`,
    [HEARTBEAT_TIMEOUT_MS],
  );
  return rows;
}

/** Work of a worker, as its process last reported it. */
export interface WorkerStats {
  /** Since it started. */
  readonly rowsWritten: number;
  /** Over five seconds. */
  readonly rowsPerSecond: number | null;
  /**
   * From the commit of a post to that of its rows, of the slowest batch lately; null without a
   * batch.
   */
  readonly lagMs: number | null;
  readonly memoryBytes: number | null;
}

const UNKNOWN_COUNTERS: WorkerCounters = { rowsWritten: 0, rowsPerSecond: null, lagMs: null };

/** A worker without a report of the last 15 s. */
export const UNKNOWN_WORKER: WorkerStats = { ...UNKNOWN_COUNTERS, memoryBytes: null };

export const workerStatsOf = (
  memoryBytes: number,
  { rowsWritten, rowsPerSecond, lagMs } = UNKNOWN_COUNTERS,
): WorkerStats => ({ rowsWritten, rowsPerSecond, lagMs, memoryBytes });

/**
 * Returns the statistics of each worker by its id. Only the counters leave the database: reports
 * are large.
 */
export async function readWorkerStats(db: Queryable): Promise<Map<string, WorkerStats>> {
  const { rows } = await db.query<{
    worker: string;
    memoryBytes: number;
    counters: WorkerCounters | null;
  }>(
    `select worker, memory_bytes as "memoryBytes", figures -> 'worker' as counters from process_figures
     where worker is not null and seen_at > clock_timestamp() - $1 * interval '1 ms'`,
    [HEARTBEAT_TIMEOUT_MS],
  );
  return new Map(
    rows.map(({ worker, memoryBytes, counters }) => [
      worker,
      workerStatsOf(memoryBytes, counters ?? undefined),
    ]),
  );
}

/** Returns the cache counters of each gateway by its id. */
export async function readCacheCounters(db: Queryable): Promise<Map<string, CacheCounters>> {
  const { rows } = await db.query<{ gateway: string; counters: CacheCounters }>(
    `select gateway, figures -> 'cache' as counters from process_figures
     where gateway is not null and figures -> 'cache' is not null
       and seen_at > clock_timestamp() - $1 * interval '1 ms'`,
    [HEARTBEAT_TIMEOUT_MS],
  );
  return new Map(rows.map(({ gateway, counters }) => [gateway, counters]));
}
