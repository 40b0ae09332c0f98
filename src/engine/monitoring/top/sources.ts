import type { Config } from '../../config/config.ts';
import { registeredWorkers } from '../../fleet/workers.ts';
import { FeedctlError } from '../../model/errors.ts';
import { listOperations } from '../../operations/table.ts';
import type { QueueView } from '../../queues/list.ts';
import { listShards, type ShardList } from '../../shards/list.ts';
import { readActiveMoves } from '../../shards/sql.ts';
import { readStats } from '../../stats/table.ts';
import { listCelebrities } from '../../store/celebrities.ts';
import { listGateways } from '../../store/processes.ts';
import { readSampling } from '../../store/samples.ts';
import { readStorage } from '../storage.ts';
import { DEADLINE_MS, type Servers, type TopConnection } from './connection.ts';
import { databaseWatch } from './database.ts';
import { readRecentEvents } from './events.ts';
import { machineWatch } from './machine.ts';
import { Source } from './source.ts';

/**
 * Share of the time for workers and gateways: thousands of rows cost this process as much as the
 * server.
 */
const ROLES_SHARE = 0.01;
const MAX_OPERATIONS = 200;
/** Minimum interval of each source; longer where its answers take long. */
const INTERVAL_MS = {
  figures: 0,
  queues: 2_000,
  roles: 5_000,
  operations: 2_000,
  celebrities: 30_000,
  shards: 60_000,
  moves: 5_000,
  storage: 10_000,
  database: 2_000,
  machine: 1_000,
  events: 1_000,
} as const;

const NO_SHARDS: ShardList = { shards: [], nodes: [], skew: { shards: 1, nodes: 1 } };

export type TopSources = ReturnType<typeof openSources>;

/** The sources of a snapshot, each with its own interval. */
export function openSources(config: Config, connection: TopConnection) {
  const on = <T>(name: keyof typeof INTERVAL_MS, ask: (servers: Servers) => Promise<T>, maxShare?: number) =>
    new Source(name, { everyMs: INTERVAL_MS[name], deadlineMs: DEADLINE_MS, maxShare }, async (begin) => {
      const servers = await connection.get();
      begin();
      return ask(servers);
    });
  const look = databaseWatch();
  const lookAtMachine = machineWatch(config.embedded ? config.dataDir : process.cwd());
  return {
    figures: on('figures', async ({ db }) => {
      try {
        return await readStats(db);
      } catch (error) {
        if (config.embedded) await connection.follow();
        throw error;
      }
    }),
    queues: openQueues(connection),
    roles: on(
      'roles',
      async ({ db }) => {
        const [workers, gateways, sampling] = await Promise.all([
          registeredWorkers(db),
          listGateways(db),
          readSampling(db),
        ]);
        return { workers, gateways, sampling };
      },
      ROLES_SHARE,
    ),
    operations: on('operations', ({ db }) => listOperations(db, { limit: MAX_OPERATIONS })),
    celebrities: on('celebrities', ({ db }) => listCelebrities(db)),
    shards: on('shards', async ({ db }) => ((await db.sharding()).distributed ? listShards(db) : NO_SHARDS)),
    moves: on('moves', async ({ db }) => ((await db.sharding()).distributed ? readActiveMoves(db) : [])),
    storage: on('storage', ({ db }) => readStorage(db, config)),
    database: on('database', ({ db }) => look(db)),
    machine: new Source('machine', { everyMs: INTERVAL_MS.machine, deadlineMs: DEADLINE_MS }, (begin) => {
      begin();
      return lookAtMachine();
    }),
    events: on('events', ({ db }) => readRecentEvents(db)),
  };
}

/** The source of the queues. Rates need two views of one generator, so the connection keeps it. */
function openQueues(connection: TopConnection): Source<QueueView> {
  const options = { everyMs: INTERVAL_MS.queues, deadlineMs: DEADLINE_MS };
  return new Source<QueueView>('queues', options, async (begin) => {
    const servers = await connection.get();
    const broker = await servers.bus.health?.();
    begin();
    if (broker && !broker.ready) throw new FeedctlError('BROKER_UNREACHABLE', broker.detail);
    try {
      const { value } = await servers.queues.next();
      if (!value) throw new FeedctlError('INTERRUPTED', 'the queues are no longer watched');
      return value;
    } catch (error) {
      // A generator that has thrown has ended.
      servers.queues = connection.watch(servers);
      throw error;
    }
  });
}
