import type { Queryable } from './types.ts';

/** Runs a statement that returns one JSON value at every node. Omits nodes that do not answer. */
export async function onEveryNode<T>(db: Queryable, statement: string): Promise<Map<number, T>> {
  const { rows } = await db.query<{ nodeid: number; result: string }>(
    'select nodeid, result from run_command_on_all_nodes($1) where success',
    [statement],
  );
  return new Map(rows.map(({ nodeid, result }) => [nodeid, JSON.parse(result) as T]));
}
