import type { Queryable } from '../database/database.ts';
import { announceLanes } from './lanes.ts';

/**
 * State that a worker reports every five seconds, and immediately when its broker becomes ready or unavailable. Its
 * counts are in its statistics.
 */
export interface WorkerHeartbeat {
  /** Partitions that it alone reads; null where workers share all queues. */
  readonly reads: readonly string[] | null;
  /** Lanes that are paused and of which it holds nothing any more. */
  readonly paused: readonly string[];
  /** It can use its broker, as its `/readyz` has it; true where there is none but the database. */
  readonly live: boolean;
}

/** A role that has not been heard of for this long is not counted on. */
export const HEARTBEAT_TIMEOUT_MS = 15_000;

export interface WorkerRow extends WorkerHeartbeat {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  readonly version: string;
  readonly startedAt: Date;
  /** Its process is nothing but this worker. */
  readonly drainable: boolean;
  readonly heartbeatAgeMs: number;
}

export interface GatewayRow {
  readonly id: string;
  readonly url: string;
  readonly startedAt: Date;
  readonly heartbeatAgeMs: number;
  readonly online: number;
}

export type WorkerIdentity = Pick<WorkerRow, 'id' | 'host' | 'pid' | 'version' | 'startedAt' | 'drainable'>;

/** A worker is there, or there again: one that was stopped for a while has been taken for dead meanwhile. */
export async function workerHeartbeat(
  db: Queryable,
  identity: WorkerIdentity,
  beat: WorkerHeartbeat,
): Promise<void> {
  const { id, host, pid, version, startedAt, drainable } = identity;
  const { reads, paused, live } = beat;
  await db.query(
    `insert into workers (id, host, pid, version, started_at, drainable, reads, paused, live)
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
     on conflict (id) do update set heartbeat_at = now(), reads = excluded.reads, paused = excluded.paused,
       live = excluded.live`,
    [id, host, pid, version, startedAt, drainable, reads, paused, live],
  );
}

/** Those that are heard of. */
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

/** Each as JSON: the driver makes 10,000 of them in 50 ms, and of columns in 130 ms. */
export async function listWorkers(db: Queryable): Promise<WorkerRow[]> {
  const { rows } = await db.query<{ worker: WorkerRow }>(
    `select row_to_json(w) as worker from (
       select id, host, pid, version, started_at as "startedAt", drainable, reads, paused, live, ${HEARTBEAT_AGE}
       from workers order by started_at) w`,
  );
  return rows.map(({ worker }) => Object.assign(worker, { startedAt: new Date(worker.startedAt) }));
}

export async function listGateways(db: Queryable): Promise<GatewayRow[]> {
  const { rows } = await db.query<GatewayRow>(
    `select id, url, started_at as "startedAt", ${HEARTBEAT_AGE},
            (select count(*) from presence p where p.gateway_id = gateways.id)::integer as online
     from gateways order by started_at`,
  );
  return rows;
}
