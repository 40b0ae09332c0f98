import type { QueryResult, QueryResultRow } from 'pg';
import { hashInt8 } from '../util/hash.ts';
import type { Queryable } from './types.ts';

/** A database server that holds shards. */
export interface StoreNode {
  readonly host: string;
  readonly port: number;
  /** The node has the metadata of Citus, so it runs any query, as the coordinator does. */
  readonly takesQueries: boolean;
}

/** One shard of every distributed table: all of them are colocated. */
export interface Shard {
  /** Smallest hash, a signed 32-bit number. The shard ends where the next one begins. */
  readonly low: number;
  readonly node: StoreNode;
}

/** Placement of rows. Plain PostgreSQL is one shard that holds everything. */
export class Sharding {
  /** Version of the Citus extension. Undefined on plain PostgreSQL. */
  readonly citusVersion: string | undefined;
  readonly shards: readonly Shard[];
  readonly #lows: Int32Array;

  constructor(citusVersion?: string, shards: readonly Shard[] = []) {
    this.citusVersion = citusVersion;
    this.shards = shards;
    this.#lows = Int32Array.from(shards, (shard) => shard.low);
  }

  get distributed(): boolean {
    return this.shards.length > 0;
  }

  /** Returns the variant for this kind of database. */
  pick<Postgres, Citus>(variants: { readonly postgres: Postgres; readonly citus: Citus }): Postgres | Citus {
    return this.distributed ? variants.citus : variants.postgres;
  }

  /** Returns the shard, counted from 0, of an id given by its high and low 32 bits. */
  shardOf(high: number, low: number): number {
    if (this.#lows.length < 2) return 0;
    const hash = hashInt8(high, low) | 0;
    let first = 0;
    let last = this.#lows.length - 1;
    while (first < last) {
      const middle = (first + last + 1) >> 1;
      if (this.#lows[middle]! <= hash) first = middle;
      else last = middle - 1;
    }
    return first;
  }

  shardOfId(id: number): number {
    return this.shardOf(Math.floor(id / 2 ** 32), (id % 2 ** 32) >>> 0);
  }

  /**
   * Splits items so that a statement about one group concerns one shard. A stale placement makes a
   * statement slower, never wrong: all statements name the logical tables.
   */
  group<T>(items: readonly T[], idOf: (item: T) => number): T[][] {
    if (this.#lows.length < 2) return items.length > 0 ? [[...items]] : [];
    const groups = new Map<number, T[]>();
    for (const item of items) {
      const shard = this.shardOfId(idOf(item));
      const group = groups.get(shard);
      if (group) group.push(item);
      else groups.set(shard, [item]);
    }
    return [...groups.values()];
  }
}

/** Chooses its statements by the placement of the rows. */
export interface Store extends Queryable {
  sharding(): Promise<Sharding>;
  /**
   * `name`: a role's sessions keep the plan of this frequent statement. Planning a statement for each of many
   * partitions takes longer than running it.
   */
  query<Row extends QueryResultRow>(
    text: string,
    values?: unknown[],
    name?: string,
  ): Promise<QueryResult<Row>>;
}

const PLAIN = new Sharding();

/** Returns the shards of one table. Those of the other tables are at the same places. */
const SHARDS = `
  select s.shardminvalue::integer as low, n.nodename as host, n.nodeport as port,
         n.hasmetadata and n.metadatasynced as "takesQueries"
  from pg_dist_shard s
  join pg_dist_placement p on p.shardid = s.shardid
  join pg_dist_node n on n.groupid = p.groupid and n.noderole = 'primary'
  where s.logicalrelid = to_regclass('feed_items') order by 1`;

/**
 * Returns the version of the extension in this database, as "13.2". Returns undefined without the
 * extension.
 */
export async function citusVersion(db: Queryable): Promise<string | undefined> {
  const { rows } = await db.query<{ version: string }>(
    `select split_part(extversion, '-', 1) as version from pg_extension where extname = 'citus'`,
  );
  return rows[0]?.version;
}

export async function readSharding(db: Queryable): Promise<Sharding> {
  const version = await citusVersion(db);
  if (version === undefined) return PLAIN;
  const { rows } = await db.query<StoreNode & { low: number }>(SHARDS);
  return new Sharding(
    version,
    rows.map(({ low, ...node }) => ({ low, node })),
  );
}
