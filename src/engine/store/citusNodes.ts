import type { Queryable } from './database.ts';

/** One node of Citus with the settings that feedctl depends on; null where it did not answer. */
export interface CitusNode {
  readonly name: string;
  readonly coordinator: boolean;
  readonly active: boolean;
  readonly walLevel: string | null;
  readonly preparedTransactions: number | null;
  readonly connections: number | null;
}

const SETTINGS = `select current_setting('wal_level') || ' ' || current_setting('max_prepared_transactions') || ' ' ||
  current_setting('max_connections')`;

/** In: the statement above. A node that does not answer has a row all the same. */
const NODES = `
  select n.nodename || ':' || n.nodeport as name, n.groupid = 0 as coordinator, n.isactive and n.metadatasynced as active,
         r.success, r.result
  from pg_dist_node n left join run_command_on_all_nodes($1) r on r.nodeid = n.nodeid
  where n.noderole = 'primary' order by n.groupid, n.nodeid`;

export async function citusNodes(db: Queryable): Promise<CitusNode[]> {
  const { rows } = await db.query<{
    name: string;
    coordinator: boolean;
    active: boolean;
    success: boolean | null;
    result: string | null;
  }>(NODES, [SETTINGS]);
  return rows.map(({ success, result, ...node }) => {
    const [walLevel, prepared, connections] = success ? result!.split(' ') : [];
    return {
      ...node,
      walLevel: walLevel ?? null,
      preparedTransactions: prepared === undefined ? null : Number(prepared),
      connections: connections === undefined ? null : Number(connections),
    };
  });
}
