import type { Queryable } from '../database/types.ts';

const SETTING = 'feeds.complete';

/**
 * How far feeds are complete: every event with a smaller id than `from` has done its work, as far as this
 * lineage of the database knows.
 */
export interface Completeness {
  /** null: the broker has lost messages since. */
  readonly lineage: string | null;
  readonly from: number;
  readonly at: string;
  /** The next state, while a barrier passes the stages of the bus one after the other. */
  readonly next?: {
    readonly from: number;
    readonly step: number;
    readonly barrier: object;
  };
}

export async function readCompleteness(db: Queryable): Promise<Completeness | undefined> {
  const { rows } = await db.query<{ value: Completeness }>('select value from settings where name = $1', [
    SETTING,
  ]);
  return rows[0]?.value;
}

/** Makes the first state: nothing is known of what happened before. */
export const beginCompleteness = (db: Queryable, lineage: string): Promise<void> =>
  assumeComplete(db, lineage, 0);

/** Makes a first state if there is none. In: an id, before which every event has done its work. */
export async function assumeComplete(db: Queryable, lineage: string, from: number): Promise<void> {
  await db.query(
    `insert into settings (name, value)
     values ($1, jsonb_build_object('lineage', $2::text, 'from', $3::bigint, 'at', now()))
     on conflict do nothing`,
    [SETTING, lineage, from],
  );
}

/** Replaces the state, unless another process has. */
export async function saveCompleteness(
  db: Queryable,
  before: Completeness,
  next: Omit<Completeness, 'at'>,
): Promise<boolean> {
  const { rowCount } = await db.query(
    `update settings set value = $3::jsonb || jsonb_build_object('at', clock_timestamp())
     where name = $1 and value = $2::jsonb`,
    [SETTING, JSON.stringify(before), JSON.stringify(next)],
  );
  return rowCount === 1;
}

/** The broker has lost messages: what is not known to be complete has to be dispatched again. */
export async function forgetMessages(db: Queryable): Promise<void> {
  await db.query(
    `update settings set value = (value - 'next') || '{"lineage": null}'
     where name = $1 and value ->> 'lineage' is not null`,
    [SETTING],
  );
}

/**
 * Returns the id of the first event whose messages may still be in the bus: the oldest one that is not
 * dispatched, and at most `now`. In: an id of the present moment.
 */
export async function firstUnfinished(db: Queryable, now: number): Promise<number> {
  const { rows } = await db.query<{ from: number }>(
    'select least($1::bigint, (select min(id) from events where dispatched_at is null)) as from',
    [now],
  );
  return rows[0]!.from;
}

/** Returns whether there is an event with this id or a greater one. */
export async function hasEventsFrom(db: Queryable, id: number): Promise<boolean> {
  // Citus refuses a subquery without columns over all shards, such as `exists (select from events)`.
  const { rowCount } = await db.query('select 1 from events where id >= $1 limit 1', [id]);
  return rowCount === 1;
}
