import { Database } from './database.ts';
import { urlAt } from './hosts.ts';
import type { StoreNode } from './sharding.ts';
import type { Session } from './types.ts';

const SESSIONS_PER_NODE = 4;
const CONNECT_MS = 2_000;
/** Time without attempts after a node could not be reached. */
const AVOID_MS = 300_000;

/**
 * Sessions for reading many rows of one shard. On Citus they connect to the node that has the
 * shard, because passing the rows through the coordinator nearly halves the rate. Statements name
 * the logical table, so that a shard that has moved is still found. If a node cannot be reached,
 * the coordinator answers.
 */
export class ShardReaders {
  readonly #db: Database;
  readonly #pools = new Map<string, Database>();
  readonly #avoidedUntil = new Map<string, number>();

  constructor(db: Database) {
    this.#db = db;
  }

  /** Runs `work` on a session for a statement about the shard of an id. */
  async withSession<T>(id: number, work: (session: Session) => Promise<T>): Promise<T> {
    const sharding = await this.#db.sharding();
    const node = sharding.shards[sharding.shardOfId(id)]?.node;
    if (!node?.takesQueries) return this.#db.withSession(work);
    const address = `${node.host}:${node.port}`;
    if (performance.now() < (this.#avoidedUntil.get(address) ?? 0)) return this.#db.withSession(work);
    let begun = false;
    try {
      return await this.#pool(node, address).withSession((session) => {
        begun = true;
        return work(session);
      });
    } catch (error) {
      if (begun) throw error;
      this.#avoidedUntil.set(address, performance.now() + AVOID_MS);
      return this.#db.withSession(work);
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.#pools.values()].map((pool) => pool.close()));
  }

  #pool(node: StoreNode, address: string): Database {
    const known = this.#pools.get(address);
    if (known) return known;
    const server = this.#db.server.derive((url) => urlAt(url, node.host, node.port));
    const pool = new Database(server, { maxSessions: SESSIONS_PER_NODE, connectMs: CONNECT_MS });
    this.#pools.set(address, pool);
    return pool;
  }
}
