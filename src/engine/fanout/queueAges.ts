import type { Queryable } from '../database/database.ts';

const SETTING = 'figures.unknown_ages';

/**
 * In: name of the setting, names of queues, seconds of memory. Out: queue, age in milliseconds.
 * Atomic: one statement.
 */
const AGES = `
  with before as (
    select queue, since::float8 as since
    from settings, jsonb_each_text(settings.value -> 'since') as each (queue, since)
    where name = $1 and (settings.value ->> 'at')::timestamptz > clock_timestamp() - $3 * interval '1 s'
  ), now as (
    select queue, coalesce(since, extract(epoch from clock_timestamp())) as since
    from unnest($2::text[]) as asked (queue) left join before using (queue)
  ), kept as (
    insert into settings (name, value)
    select $1, jsonb_build_object('at', clock_timestamp(), 'since', jsonb_object_agg(queue, since)) from now
    on conflict (name) do update set value = excluded.value
  )
  select queue, (extract(epoch from clock_timestamp()) - since) * 1000 as ms from now`;

/**
 * Returns the minimum age in milliseconds of the messages in these queues: the time since when
 * every poll has named the queue. The times are in the database, because the polling worker
 * changes. They start again after `memorySeconds` without a poll.
 */
export async function estimateAges(
  db: Queryable,
  queues: readonly string[],
  memorySeconds: number,
): Promise<Map<string, number>> {
  if (queues.length === 0) {
    await db.query('delete from settings where name = $1', [SETTING]);
    return new Map();
  }
  const { rows } = await db.query<{ queue: string; ms: number }>(AGES, [SETTING, queues, memorySeconds]);
  return new Map(rows.map(({ queue, ms }) => [queue, Math.max(0, Number(ms))]));
}
