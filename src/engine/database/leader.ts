import type { Queryable } from './types.ts';

/** In: name of the setting, who, lease in seconds. A row comes back for whoever leads now. */
const LEAD = `
  insert into settings (name, value) values ($1, jsonb_build_object('id', $2::text, 'at', clock_timestamp()))
  on conflict (name) do update set value = excluded.value
  where settings.value ->> 'id' = $2
     or (settings.value ->> 'at')::timestamptz < clock_timestamp() - $3 * interval '1 s'
  returning 1`;

/**
 * Whether this one of many is to do what one is enough for: it asks again well within the lease and then goes on, or
 * another takes over when the lease is over. For what may be done twice now and then.
 */
export async function acquireLeadership(
  db: Queryable,
  name: string,
  options: { id: string; leaseSeconds: number },
): Promise<boolean> {
  const { rowCount } = await db.query(LEAD, [name, options.id, options.leaseSeconds]);
  return rowCount === 1;
}

/** Another may take over at once. */
export async function releaseLeadership(db: Queryable, name: string, id: string): Promise<void> {
  await db.query(`delete from settings where name = $1 and value ->> 'id' = $2`, [name, id]);
}
