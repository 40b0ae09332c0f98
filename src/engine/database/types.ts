import type pg from 'pg';

/** Anything that runs a statement: the pool, or one session inside a transaction. */
export interface Queryable {
  query<Row extends pg.QueryResultRow>(text: string, values?: unknown[]): Promise<pg.QueryResult<Row>>;
}

/** One connection of a pool, for the time that the pool lends it. */
export type Session = pg.PoolClient;
