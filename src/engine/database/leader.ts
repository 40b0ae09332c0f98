import type { Queryable } from './types.ts';

/**
 * Acquires or renews a lease. Returns a row for the leader. In: name of the setting, id of the
 * process, lease in seconds.
 */
const LEAD = `
  insert into settings (name, value) values ($1, jsonb_build_object('id', $2::text, 'at', clock_timestamp()))
  on conflict (name) do update set value = excluded.value
  where settings.value ->> 'id' = $2
     or (settings.value ->> 'at')::timestamptz < clock_timestamp() - $3 * interval '1 s'
  returning 1`;

/**
 * Returns whether this process is the leader for a task that one process should do. The leader
 * calls again well within the lease. Otherwise another process takes over at the end of the lease.
 * Two leaders may overlap for a moment, so the task must tolerate that.
 */
export async function acquireLeadership(
  db: Queryable,
  name: string,
  options: { id: string; leaseSeconds: number },
): Promise<boolean> {
  const { rowCount } = await db.query(LEAD, [name, options.id, options.leaseSeconds]);
  return rowCount === 1;
}

/** Lets another process take over immediately. */
export async function releaseLeadership(db: Queryable, name: string, id: string): Promise<void> {
  await db.query(`delete from settings where name = $1 and value ->> 'id' = $2`, [name, id]);
}

/**
 * Returns true if this process should do periodic work now: one process does it every `seconds`. `name`: a
 * setting that holds the time of the last turn.
 */
export async function claimTurn(db: Queryable, name: string, seconds: number): Promise<boolean> {
  const { rowCount } = await db.query(
    `insert into settings (name, value) values ($1, to_jsonb(now()))
     on conflict (name) do update set value = excluded.value
     where (settings.value #>> '{}')::timestamptz < now() - $2 * interval '1 s'`,
    [name, seconds],
  );
  return rowCount === 1;
}
