import type { Bus } from '../../bus/bus.ts';
import { openBus, resolveDatabase } from '../../cluster/cluster.ts';
import type { Config } from '../../config/config.ts';
import { Database } from '../../database/database.ts';
import { checkSchema } from '../../database/migrate.ts';
import { FeedctlError } from '../../model/errors.ts';
import { type QueueView, watchQueues } from '../../queues/list.ts';
import { silentLog } from '../../telemetry/log.ts';
import type { ServerUrl } from '../../util/serverUrl.ts';

/** Maximum time for an answer of the database or the broker. */
export const DEADLINE_MS = 5_000;
const SESSIONS = 4;
/** The bus asks one question after the other. */
const BUS_SESSIONS = 1;

export interface Servers {
  readonly server: ServerUrl;
  readonly db: Database;
  readonly bus: Bus;
  queues: AsyncGenerator<QueueView>;
}

/**
 * The connection of `top` to a cluster: opened when it is first used, and again after a failure.
 */
export class TopConnection {
  readonly #config: Config;
  readonly #stop = new AbortController();
  #servers: Promise<Servers> | undefined;
  #closing: Promise<unknown> = Promise.resolve();
  /** Kind of the bus that was opened last. */
  busKind: string | undefined;

  constructor(config: Config) {
    this.#config = config;
  }

  get closed(): boolean {
    return this.#stop.signal.aborted;
  }

  /** Returns the open servers. A call after a failure connects again. */
  async get(): Promise<Servers> {
    if (this.closed) throw new FeedctlError('INTERRUPTED', 'top has been closed');
    this.#servers ??= this.#open().catch((error) => {
      this.#servers = undefined;
      throw error;
    });
    return this.#servers;
  }

  /** Starts a generator of queue views, which ends at the first error. */
  watch(servers: { db: Database; bus: Bus }): AsyncGenerator<QueueView> {
    // No pause between two views: the caller decides when it needs one.
    return watchQueues(servers, { intervalMs: 0, signal: this.#stop.signal });
  }

  /** Drops the connection where an embedded cluster was restarted, which gives it another URL. */
  async follow(): Promise<void> {
    const before = await this.#servers?.catch(() => undefined);
    if (!before || (await resolveDatabase(this.#config)).current === before.server.current) return;
    this.#servers = undefined;
    this.#closing = Promise.all([this.#closing, shut(before)]);
  }

  async close(): Promise<void> {
    this.#stop.abort();
    const servers = await this.#servers?.catch(() => undefined);
    await Promise.all([this.#closing, servers && shut(servers)]);
  }

  async #open(): Promise<Servers> {
    const config = this.#config;
    const server = await resolveDatabase(config);
    const limits = { connectMs: DEADLINE_MS - 1_000, deadlineMs: DEADLINE_MS };
    const db = new Database(server, { ...limits, maxSessions: SESSIONS, applicationName: 'feedctl top' });
    try {
      await checkSchema(db, config.store);
      const bus = await openBus(config, server, silentLog, {
        sessions: { ...limits, maxSessions: BUS_SESSIONS },
      });
      this.busKind = bus.kind;
      return { server, db, bus, queues: this.watch({ db, bus }) };
    } catch (error) {
      await db.close();
      throw error;
    }
  }
}

async function shut({ db, bus, queues }: Servers): Promise<void> {
  await queues.return(undefined).catch(() => {});
  await bus.close().catch(() => {});
  await db.close().catch(() => {});
}
