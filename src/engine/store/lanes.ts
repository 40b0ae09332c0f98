import type { Queryable } from '../database/types.ts';
import type { LaneName, LaneState } from '../model/lanes.ts';

/** Channel for changes of lanes, and of the number of workers, who share a lane's rate. */
export const LANES_CHANNEL = 'feedctl_lanes';

interface LaneRow {
  readonly lane: LaneName;
  readonly paused_at: Date | null;
  readonly paused_by: string;
  readonly pause_reason: string | null;
  readonly rows_per_second: number | null;
  readonly throttled_at: Date;
  readonly throttled_by: string;
  readonly throttle_reason: string | null;
}

export async function readLanes(db: Queryable): Promise<LaneState[]> {
  const { rows } = await db.query<LaneRow>('select * from fanout_lanes order by lane desc');
  return rows.map((row) => ({
    lane: row.lane,
    paused: row.paused_at && { since: row.paused_at, by: row.paused_by, reason: row.pause_reason },
    throttled:
      row.rows_per_second === null
        ? null
        : {
            rowsPerSecond: row.rows_per_second,
            since: row.throttled_at,
            by: row.throttled_by,
            reason: row.throttle_reason,
          },
  }));
}

/** Author and reason of a change. */
export interface ChangedBy {
  readonly by: string;
  readonly reason: string | null;
}

/**
 * Updates lanes and notifies the workers at the commit. Returns the lanes that changed. In: lanes.
 */
async function change(
  db: Queryable,
  set: string,
  unless: string,
  lanes: readonly LaneName[],
  values: readonly unknown[] = [],
): Promise<LaneName[]> {
  const { rows } = await db.query<{ lane: LaneName }>(
    `with changed as (update fanout_lanes set ${set} where lane = any($1) and ${unless} returning lane)
     select lane, pg_notify('${LANES_CHANNEL}', lane) from changed`,
    [lanes, ...values],
  );
  return rows.map((row) => row.lane);
}

/** Pauses lanes. A paused lane keeps its first author and reason. */
export const pauseLanes = (db: Queryable, lanes: readonly LaneName[], { by, reason }: ChangedBy) =>
  change(db, 'paused_at = clock_timestamp(), paused_by = $2, pause_reason = $3', 'paused_at is null', lanes, [
    by,
    reason,
  ]);

export const resumeLanes = (db: Queryable, lanes: readonly LaneName[]) =>
  change(db, 'paused_at = null, paused_by = null, pause_reason = null', 'paused_at is not null', lanes);

/** `rowsPerSecond`: null removes the limit. */
export const throttleLanes = (
  db: Queryable,
  lanes: readonly LaneName[],
  rowsPerSecond: number | null,
  { by, reason }: ChangedBy,
) =>
  change(
    db,
    `rows_per_second = $2::integer, throttled_at = clock_timestamp(), throttled_by = $3,
     throttle_reason = $4`,
    'rows_per_second is distinct from $2::integer',
    lanes,
    [rowsPerSecond, by, reason],
  );

/** Makes every worker read the lanes again. */
export async function announceLanes(db: Queryable): Promise<void> {
  await db.query('select pg_notify($1, $2)', [LANES_CHANNEL, '']);
}
