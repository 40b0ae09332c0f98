import type { Queryable } from './database.ts';

export interface WorkerRow {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  readonly version: string;
  readonly startedAt: Date;
  readonly heartbeatAgeMs: number;
  readonly rowsWritten: number;
}

export interface GatewayRow {
  readonly id: string;
  readonly url: string;
  readonly startedAt: Date;
  readonly heartbeatAgeMs: number;
  readonly online: number;
}

export type WorkerIdentity = Pick<WorkerRow, 'id' | 'host' | 'pid' | 'version' | 'startedAt'>;

/** A worker is there, or there again: one that was stopped for a while has been taken for dead meanwhile. */
export async function workerHeartbeat(
  db: Queryable,
  { id, host, pid, version, startedAt }: WorkerIdentity,
  rowsWritten: number,
): Promise<void> {
  await db.query(
    `insert into workers (id, host, pid, version, started_at, rows_written) values ($1, $2, $3, $4, $5, $6)
     on conflict (id) do update set heartbeat_at = now(), rows_written = excluded.rows_written`,
    [id, host, pid, version, startedAt, rowsWritten],
  );
}

export async function unregisterWorker(db: Queryable, id: string): Promise<void> {
  await db.query('delete from workers where id = $1', [id]);
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

export async function listWorkers(db: Queryable): Promise<WorkerRow[]> {
  const { rows } = await db.query<WorkerRow>(
    `select id, host, pid, version, started_at as "startedAt", rows_written as "rowsWritten", ${HEARTBEAT_AGE}
     from workers order by started_at`,
  );
  return rows;
}

export async function listGateways(db: Queryable): Promise<GatewayRow[]> {
  const { rows } = await db.query<GatewayRow>(
    `select id, url, started_at as "startedAt", ${HEARTBEAT_AGE},
            (select count(*) from presence p where p.gateway_id = gateways.id)::integer as online
     from gateways order by started_at`,
  );
  return rows;
}
