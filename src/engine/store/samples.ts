import type { Queryable } from '../database/types.ts';
import type { Mismatch, Sampling } from '../model/sample.ts';

/** Settings with what the samples have found. */
const ROWS = 'sampling.rows';
const CACHES = 'sampling.caches';
const MAX_HEALED = 20;
const HEALED_SECONDS = 24 * 3_600;

/** Progress and result of the looks at rows. The worker that looks next continues from here. */
export interface RowsSample {
  readonly at: string | null;
  /** All feeds up to this user have been compared in the current pass over all users. */
  readonly walked: number;
  /** The same for the pass over the users who are online. */
  readonly online: number;
  readonly checked: number;
  readonly waiting: number;
  readonly differing: readonly Mismatch[];
  readonly last: Mismatch | null;
}

const NOTHING: RowsSample = {
  at: null,
  walked: 0,
  online: 0,
  checked: 0,
  waiting: 0,
  differing: [],
  last: null,
};

export async function readRowsSample(db: Queryable): Promise<RowsSample> {
  const { rows } = await db.query<{ value: RowsSample }>('select value from settings where name = $1', [
    ROWS,
  ]);
  return { ...NOTHING, ...rows[0]?.value };
}

export async function saveRowsSample(db: Queryable, sample: RowsSample): Promise<void> {
  await db.query(
    `insert into settings (name, value) values ($1, $2)
     on conflict (name) do update set value = excluded.value`,
    [ROWS, JSON.stringify(sample)],
  );
}

/** In: name of the setting, new mismatches, seconds to keep, maximum number. Atomic: one statement. */
const ADD_HEALED = `
  insert into settings as s (name, value) values ($1, $2::jsonb)
  on conflict (name) do update set value = (
    select coalesce(jsonb_agg(one order by one ->> 'at' desc), '[]') from (
      select one from jsonb_array_elements(excluded.value || s.value) one
      where (one ->> 'at')::timestamptz > clock_timestamp() - $3 * interval '1 s'
      order by one ->> 'at' desc limit $4) newest)`;

/** Adds cached feeds that differed and were dropped. */
export async function addHealed(db: Queryable, healed: readonly Mismatch[]): Promise<void> {
  if (healed.length > 0)
    await db.query(ADD_HEALED, [CACHES, JSON.stringify(healed), HEALED_SECONDS, MAX_HEALED]);
}

/** In: names of both settings, seconds. */
const READ = `
  select (select value from settings where name = $1) as rows,
         (select jsonb_agg(one) from settings, jsonb_array_elements(value) one
          where name = $2
            and (one ->> 'at')::timestamptz > clock_timestamp() - $3 * interval '1 s') as healed,
         (select coalesce(sum((figures ->> 'sampled')::bigint), 0)::float8 from process_figures
          where seen_at > clock_timestamp() - interval '15 s') as "checkedCached"`;

export async function readSampling(db: Queryable): Promise<Sampling> {
  const { rows } = await db.query<{
    rows: RowsSample | null;
    healed: Mismatch[] | null;
    checkedCached: number;
  }>(READ, [ROWS, CACHES, HEALED_SECONDS]);
  const { at: lastAt, checked, waiting, differing, last } = { ...NOTHING, ...rows[0]!.rows };
  const healed = rows[0]!.healed ?? [];
  const feeds = (kind: Mismatch['kind'], some: readonly Mismatch[]) =>
    new Set(some.flatMap((one) => (one.kind === kind ? one.userId : []))).size;
  return {
    lastAt,
    checked,
    checkedCached: rows[0]!.checkedCached,
    waiting,
    differing,
    healed,
    mismatched: {
      missing: feeds('missing', differing),
      strangers: feeds('strangers', differing),
      cache: feeds('cache', healed),
    },
    last: [last, ...healed].reduce((a, b) => (!a || (b && b.at > a.at) ? b : a), null),
  };
}

/** In: name of a setting, path of the list, user. */
const FORGET_LIST = `
  update settings set value = jsonb_set(value, $2::text[], coalesce(
    (select jsonb_agg(one) from jsonb_array_elements(value #> $2::text[]) one
     where one ->> 'userId' <> $3::bigint::text), '[]'))
  where name = $1 and value::text like '%' || $3::bigint::text || '%'`;

/** Removes an erased user. Later looks do not find the user, so they do not add it again. */
export async function forgetSamplesOf(db: Queryable, userId: number): Promise<void> {
  await db.query(FORGET_LIST, [ROWS, ['differing'], userId]);
  await db.query(
    `update settings set value = jsonb_set(value, '{last}', 'null')
     where name = $1 and value #>> '{last,userId}' = $2::bigint::text`,
    [ROWS, userId],
  );
  await db.query(
    `update settings set value = coalesce(
       (select jsonb_agg(one) from jsonb_array_elements(value) one
        where one ->> 'userId' <> $2::bigint::text), '[]')
     where name = $1`,
    [CACHES, userId],
  );
}

/**
 * Returns users whose feeds matter now: online users above `after`, from the first again where there are no
 * more, and users who have read the most in the last minute. In: user, limit.
 */
const ACTIVE = `
  (select distinct user_id as id, 1 as rank from presence where user_id > $1 order by id limit $2)
  union all
  (select distinct user_id as id, 2 from presence where user_id <= $1 order by id limit $2)
  union all
  (select id, 3 from (
     select distinct (reader ->> 0)::bigint as id
     from process_figures, jsonb_array_elements((figures -> 'readers')::jsonb) reader) readers
   order by random() limit $2)
  order by rank, id`;

/** `online`: where the next call continues. */
export async function activeUsers(
  db: Queryable,
  after: number,
  limit: number,
): Promise<{ ids: number[]; online: number }> {
  const { rows } = await db.query<{ id: number; rank: number }>(ACTIVE, [after, limit]);
  const readers = rows.filter(({ rank }) => rank === 3).slice(0, Math.ceil(limit / 2));
  const online = rows.filter(({ rank }) => rank < 3).slice(0, Math.max(0, limit - readers.length));
  const ids = [...new Set([...online, ...readers].map(({ id }) => id))];
  return { ids, online: online.at(-1)?.id ?? 0 };
}
