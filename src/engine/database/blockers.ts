import { setTimeout as sleep } from 'node:timers/promises';
import type { Database } from './database.ts';
import type { Queryable, Session } from './types.ts';

const LOOK_INTERVAL_MS = 100;

/** A session that holds a lock. The text of its statement may be long. */
const BLOCKER = `
  a.pid, coalesce(a.usename, 'unknown') as "user", coalesce(a.state, 'unknown') as state,
  coalesce(nullif(a.application_name, ''), 'unnamed') as name,
  to_char(a.xact_start at time zone 'UTC', 'HH24:MI:SS') as since,
  regexp_replace(left(a.query, 60), '\\s+', ' ', 'g') ||
    case when length(a.query) > 60 then '…' else '' end as query`;

/** In: process of the server that waits. */
const BLOCKERS = `
  select ${BLOCKER}, null as node
  from pg_stat_activity a where a.pid = any(pg_blocking_pids($1)) order by a.xact_start`;

/** Runs at each node. The sessions of one process of the coordinator there have its global id. */
const blockersAtNode = (globalId: number): string => `
  select coalesce(json_agg(b), '[]') from (
    select ${BLOCKER} from pg_stat_activity a
    where a.pid in (select unnest(pg_blocking_pids(process_id)) from get_all_active_transactions()
                    where global_pid = ${globalId})
    order by a.xact_start) b`;

/** Processes have global ids here, which `pg_terminate_backend` takes too. In: statement for a node. */
const BLOCKERS_AT_NODES = `
  select citus_calculate_gpid(n.nodeid, b.pid) as pid, n.nodename || ':' || n.nodeport as node,
         b."user", b.state, b.name, b.since, b.query
  from run_command_on_all_nodes($1) r join pg_dist_node n using (nodeid)
  cross join lateral json_to_recordset(case when r.success then r.result::json else '[]' end)
    b(pid integer, "user" text, state text, name text, since text, query text)
  where n.groupid <> (select groupid from pg_dist_local_group)`;

interface Blocker {
  readonly pid: number;
  /** Null for the server that was asked. */
  readonly node: string | null;
  readonly user: string;
  readonly name: string;
  readonly state: string;
  readonly since: string | null;
  readonly query: string;
}

const nameOf = ({ pid, node, user, name, state, since, query }: Blocker): string => {
  const open = since ? `, in a transaction since ${since} UTC` : '';
  return `session ${pid}${node ? ` at ${node}` : ''} of ${user} (${name}, ${state}${open}: ${query})`;
};

/** A process that waits for locks: its id at the server, and at all nodes of Citus. */
interface Waiting {
  readonly pid: number;
  readonly globalId: number | null;
}

async function findBlockers(db: Queryable, { pid, globalId }: Waiting): Promise<Blocker[]> {
  const { rows } = await db.query<Blocker & Record<string, unknown>>(BLOCKERS, [pid]);
  if (rows.length > 0 || globalId === null) return rows;
  const statement = blockersAtNode(globalId);
  return (await db.query<Blocker & Record<string, unknown>>(BLOCKERS_AT_NODES, [statement])).rows;
}

/** Looks which sessions one session waits for. After a timeout the server no longer knows. */
export class BlockerWatch {
  readonly #db: Database;
  readonly #onBlocked: ((blockers: string) => void) | undefined;
  #watching: Promise<void> | undefined;
  #stopping = new AbortController();
  blockers: string | undefined;

  constructor(db: Database, onBlocked: ((blockers: string) => void) | undefined) {
    this.#db = db;
    this.#onBlocked = onBlocked;
  }

  async start(session: Session, { onCitus }: { onCitus: boolean }): Promise<void> {
    const globalId = onCitus ? 'citus_backend_gpid()' : 'null::bigint';
    const { rows } = await session.query<Waiting>(
      `select pg_backend_pid() as pid, ${globalId} as "globalId"`,
    );
    this.#stopping = new AbortController();
    this.#watching = this.#watch(rows[0]!, this.#stopping.signal).catch(() => {});
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#watching;
  }

  async #watch(waiting: Waiting, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await sleep(LOOK_INTERVAL_MS, undefined, { signal });
      const found = await findBlockers(this.#db, waiting);
      if (found.length === 0) continue;
      const blockers = found.map(nameOf).join(', ');
      if (blockers === this.blockers) continue;
      this.blockers = blockers;
      this.#onBlocked?.(blockers);
    }
  }
}
