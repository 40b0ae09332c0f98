import type { Queryable } from '../database/types.ts';
import type { Check } from '../model/check.ts';
import { DATABASE_NOW } from './databaseClock.ts';
import { announceLanes } from './lanes.ts';

/**
 * A worker's heartbeat, every five seconds and whenever its broker or its clock becomes usable or
 * unusable. Its counts are in its statistics.
 */
export interface WorkerHeartbeat {
  /** Partitions that it alone reads. Null if workers share all queues. */
  readonly reads: readonly string[] | null;
  /** Paused lanes without messages in flight at this worker. */
  readonly paused: readonly string[];
  /** Its clock is right, and its broker, if there is one, is usable, as its `/readyz` reports. */
  readonly live: boolean;
}

/** A process without a heartbeat for this long counts as dead. */
export const HEARTBEAT_TIMEOUT_MS = 15_000;

export interface WorkerRow extends WorkerHeartbeat {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  readonly version: string;
  readonly startedAt: Date;
  /** Its process runs nothing but this worker. */
  readonly drainable: boolean;
  readonly heartbeatAgeMs: number;
}

export interface GatewayRow {
  readonly id: string;
  readonly url: string;
  readonly startedAt: Date;
  readonly heartbeatAgeMs: number;
  readonly online: number;
  /** Another gateway has started at its URL since its last heartbeat, as after a kill and a new start. */
  readonly replaced: boolean;
}

export type WorkerIdentity = Pick<WorkerRow, 'id' | 'host' | 'pid' | 'version' | 'startedAt' | 'drainable'>;

/**
 * Inserts or updates a worker. One that was suspended may have been removed as dead meanwhile. Returns
 * the time of the database.
 */
export async function workerHeartbeat(
  db: Queryable,
  identity: WorkerIdentity,
  beat: WorkerHeartbeat,
): Promise<{ readonly now: number }> {
  const { id, host, pid, version, startedAt, drainable } = identity;
  const { reads, paused, live } = beat;
  const { rows } = await db.query<{ now: number }>(
    `insert into workers (id, host, pid, version, started_at, drainable, reads, paused, live)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
     on conflict (id) do update set heartbeat_at = now(), reads = excluded.reads, paused = excluded.paused,
       live = excluded.live
     returning ${DATABASE_NOW} as now`,
    [id, host, pid, version, startedAt, drainable, reads, paused, live],
  );
  return rows[0]!;
}

/** Keeps what a role finds when it uses its dependencies, as a JSON list of checks. */
export async function saveChecks(
  db: Queryable,
  table: 'workers' | 'gateways',
  id: string,
  checks: string,
): Promise<void> {
  await db.query(`update ${table} set checks = $2 where id = $1`, [id, checks]);
}

/** What one role has found last. */
export interface RoleChecks {
  readonly kind: 'worker' | 'gateway';
  readonly id: string;
  /** Host of a worker, URL of a gateway. */
  readonly at: string;
  /** Null: a role of an older version. */
  readonly checks: readonly Check[] | null;
}

/** Returns the checks of all roles that are alive. */
export async function listRoleChecks(db: Queryable): Promise<RoleChecks[]> {
  const { rows } = await db.query<RoleChecks>(
    `select 'worker' as kind, id, host as at, checks, started_at from workers
     where heartbeat_at > clock_timestamp() - $1 * interval '1 ms'
     union all
     select 'gateway', id, url, checks, started_at from gateways
     where heartbeat_at > clock_timestamp() - $1 * interval '1 ms'
     order by kind desc, started_at`,
    [HEARTBEAT_TIMEOUT_MS],
  );
  return rows;
}

/** Returns the number of workers that are alive. */
export async function countWorkers(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ count: number }>(
    "select count(*) as count from workers where heartbeat_at > clock_timestamp() - $1 * interval '1 ms'",
    [HEARTBEAT_TIMEOUT_MS],
  );
  return rows[0]!.count;
}

export async function countGateways(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ count: number }>(
    "select count(*) as count from gateways where heartbeat_at > clock_timestamp() - $1 * interval '1 ms'",
    [HEARTBEAT_TIMEOUT_MS],
  );
  return rows[0]!.count;
}

export async function unregisterWorker(db: Queryable, id: string): Promise<void> {
  await db.query('delete from workers where id = $1', [id]);
  await announceLanes(db);
}

export async function removeDeadWorkers(db: Queryable, silentSeconds: number): Promise<void> {
  await db.query("delete from workers where heartbeat_at < now() - $1 * interval '1 s'", [silentSeconds]);
}

export async function silentGateways(db: Queryable, silentSeconds: number): Promise<string[]> {
  const { rows } = await db.query<{ id: string }>(
    "select id from gateways where heartbeat_at < now() - $1 * interval '1 s'",
    [silentSeconds],
  );
  return rows.map((row) => row.id);
}

const HEARTBEAT_AGE =
  'extract(epoch from clock_timestamp() - heartbeat_at)::float8 * 1000 as "heartbeatAgeMs"';

/**
 * Returns each worker as JSON: the driver decodes 10,000 of them in 50 ms, and columns in 130 ms.
 */
export async function listWorkers(db: Queryable): Promise<WorkerRow[]> {
  const { rows } = await db.query<{ worker: WorkerRow }>(
    `select row_to_json(w) as worker from (
       select id, host, pid, version, started_at as "startedAt", drainable, reads, paused, live,
              ${HEARTBEAT_AGE}
       from workers order by started_at) w`,
  );
  return rows.map(({ worker }) => Object.assign(worker, { startedAt: new Date(worker.startedAt) }));
}

export async function listGateways(db: Queryable): Promise<GatewayRow[]> {
  const { rows } = await db.query<GatewayRow>(
    `select id, url, started_at as "startedAt", ${HEARTBEAT_AGE},
            exists (select from gateways n where n.url = g.url and n.started_at > g.heartbeat_at) as replaced,
            (select count(*) from presence p where p.gateway_id = g.id)::integer as online
     from gateways g order by started_at`,
  );
  return rows;
}
