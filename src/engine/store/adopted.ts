import type { Queryable } from '../database/types.ts';

const SETTING = 'bus.adopted';

/** What an operator has adopted with the broker. */
export interface Adopted {
  /** Messages of unknown histories of this cluster are taken if they are older, in unix milliseconds. */
  readonly atMs: number;
  /** Clusters that are gone: their messages are dropped. */
  readonly clusters: readonly string[];
}

export async function readAdopted(db: Queryable): Promise<Adopted> {
  const { rows } = await db.query<{ value: Adopted }>('select value from settings where name = $1', [
    SETTING,
  ]);
  return rows[0]?.value ?? { atMs: 0, clusters: [] };
}

/** Saves an adoption. The messages of the queues have whole seconds. `cluster`: the earlier owner. */
export async function saveAdopted(db: Queryable, cluster: string | undefined): Promise<void> {
  await db.query(
    `insert into settings as s (name, value)
     values ($1, jsonb_build_object(
       'atMs', ceil(extract(epoch from clock_timestamp())) * 1000, 'clusters', to_jsonb($2::text[])))
     on conflict (name) do update
     set value = jsonb_build_object('atMs', excluded.value -> 'atMs',
                                    'clusters', (s.value -> 'clusters') || (excluded.value -> 'clusters'))`,
    [SETTING, cluster === undefined ? [] : [cluster]],
  );
}
