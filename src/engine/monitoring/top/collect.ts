import { setTimeout as sleep } from 'node:timers/promises';
import type { Bus } from '../../bus/bus.ts';
import { messagesIn } from '../../bus/depths.ts';
import { openBus, resolveDatabaseUrl } from '../../cluster/cluster.ts';
import type { Config } from '../../config/config.ts';
import { Database } from '../../database/database.ts';
import { checkSchema } from '../../database/migrate.ts';
import { registeredWorkers } from '../../fleet/workers.ts';
import { FeedctlError, isFeedctlError } from '../../model/errors.ts';
import { listOperations } from '../../operations/table.ts';
import { type QueueView, watchQueues } from '../../queues/list.ts';
import { listShards, type ShardList } from '../../shards/list.ts';
import { readActiveMoves } from '../../shards/sql.ts';
import { readStats } from '../../stats/table.ts';
import { listCelebrities } from '../../store/celebrities.ts';
import { listGateways } from '../../store/processes.ts';
import { silentLog } from '../../telemetry/log.ts';
import { settleWithin } from '../../util/deadline.ts';
import { snapshotOf, type TopSnapshot } from './snapshot.ts';
import { Source } from './source.ts';

const DEADLINE_MS = 5_000;
/** For the first frame: what takes longer is in one of the next. */
const FIRST_MS = 1_000;
const SESSIONS = 4;
/** Thousands of workers are as much work for this process as for the server. */
const ROLES_SHARE = 0.01;
/** The bus asks one thing after the other. */
const BUS_SESSIONS = 1;
const OPERATIONS = 200;
/** At least so long between two askings; longer where answers take long. */
const INTERVAL_MS = {
  figures: 0,
  queues: 2_000,
  roles: 5_000,
  operations: 2_000,
  celebrities: 30_000,
  shards: 60_000,
  moves: 5_000,
} as const;
const STEP_MS = 5_000;
const STEPS_KEPT = 120;
/** Rates of queues are of two looks. */
const BETWEEN_LOOKS_MS = 1_000;

interface Servers {
  readonly url: string;
  readonly db: Database;
  readonly bus: Bus;
  queues: AsyncGenerator<QueueView>;
}

/** Looks at a cluster again and again, whatever of it is there. */
export interface TopCollector {
  /** Asks what is due, each source for itself: `onChange` is called whenever one has answered or failed. */
  refresh(intervalMs: number): void;
  /** What is known now. */
  snapshot(): TopSnapshot;
  onChange: () => void;
  close(): Promise<void>;
}

/** A wrong password or a missing schema is to be mended, and not waited for. */
const AWAY = ['DATABASE_UNREACHABLE', 'TIMED_OUT', 'OVERLOADED'] as const;

const NO_SHARDS: ShardList = { shards: [], nodes: [], skew: { shards: 1, nodes: 1 } };

/**
 * Looks for the first time. A database or a broker that is away, or says nothing, is no error: it is asked again. Throws what no
 * waiting mends: CLUSTER_NOT_RUNNING, SCHEMA_MISSING, DATABASE_REFUSED, CONFIG_INVALID and the like.
 * `complete`: resolves when every source has answered or failed, and the queues twice, for their rates: within 11 s. Without it,
 * a source that has not answered in a second is not waited for.
 */
export async function openTop(config: Config, options: { complete: boolean }): Promise<TopCollector> {
  const stop = new AbortController();
  let servers: Promise<Servers> | undefined;
  let bus: string | undefined;
  let closed = false;
  let shutting: Promise<unknown> = Promise.resolve();

  const open = async (): Promise<Servers> => {
    const url = await resolveDatabaseUrl(config);
    const limits = { connectMs: DEADLINE_MS - 1_000, deadlineMs: DEADLINE_MS };
    const db = new Database(url, { ...limits, maxSessions: SESSIONS, applicationName: 'feedctl top' });
    try {
      await checkSchema(db, config.store);
      const opened = await openBus(config, url, silentLog, { ...limits, maxSessions: BUS_SESSIONS });
      bus = opened.kind;
      // Asked by its source, so it never waits between two looks itself.
      const queues = watchQueues({ db, bus: opened }, { intervalMs: 0, signal: stop.signal });
      return { url, db, bus: opened, queues };
    } catch (error) {
      await db.close();
      throw error;
    }
  };
  const shut = async ({ db, bus, queues }: Servers) => {
    await queues.return(undefined).catch(() => {});
    await bus.close().catch(() => {});
    await db.close().catch(() => {});
  };
  const connected = async (): Promise<Servers> => {
    if (closed) throw new FeedctlError('INTERRUPTED', 'nobody looks any more');
    servers ??= open().catch((error) => {
      servers = undefined;
      throw error;
    });
    return servers;
  };
  /** An embedded cluster that was started again is somewhere else. */
  const follow = async (): Promise<void> => {
    const before = await servers?.catch(() => undefined);
    if (!before || (await resolveDatabaseUrl(config)) === before.url) return;
    servers = undefined;
    shutting = Promise.all([shutting, shut(before)]);
  };

  const on = <T>(name: keyof typeof INTERVAL_MS, ask: (servers: Servers) => Promise<T>, mostShare?: number) =>
    new Source(name, { everyMs: INTERVAL_MS[name], deadlineMs: DEADLINE_MS, mostShare }, async (begin) => {
      const at = await connected();
      begin();
      return ask(at);
    });
  const figures = on('figures', async ({ db }) => {
    try {
      return await readStats(db);
    } catch (error) {
      if (config.embedded) await follow();
      throw error;
    }
  });
  const queues = new Source<QueueView>(
    'queues',
    { everyMs: INTERVAL_MS.queues, deadlineMs: DEADLINE_MS },
    async (begin) => {
      const at = await connected();
      const broker = await at.bus.health?.();
      begin();
      if (broker && !broker.ready) throw new FeedctlError('BROKER_UNREACHABLE', broker.detail);
      try {
        const { value } = await at.queues.next();
        if (!value) throw new FeedctlError('INTERRUPTED', 'no more looks at the queues');
        return value;
      } catch (error) {
        // A generator that has thrown is over: the next look begins with another.
        at.queues = watchQueues(at, { intervalMs: 0, signal: stop.signal });
        throw error;
      }
    },
  );
  const roles = on(
    'roles',
    async ({ db }) => {
      const [workers, gateways] = await Promise.all([registeredWorkers(db), listGateways(db)]);
      return { workers, gateways };
    },
    ROLES_SHARE,
  );
  const operations = on('operations', ({ db }) => listOperations(db, { limit: OPERATIONS }));
  const celebrities = on('celebrities', ({ db }) => listCelebrities(db));
  const shards = on('shards', async ({ db }) => {
    if (!(await db.sharding()).distributed) return NO_SHARDS;
    return listShards(db);
  });
  const moves = on('moves', async ({ db }) => ((await db.sharding()).distributed ? readActiveMoves(db) : []));
  const sources = [figures, queues, roles, operations, celebrities, shards, moves];

  const series: number[] = [];
  let step = -1;
  const note = () => {
    const { value } = queues;
    const now = Math.floor(Date.now() / STEP_MS);
    if (!value || queues.error || now === step) return;
    step = now;
    series.push(value.queues.reduce((sum, row) => sum + messagesIn(row), 0));
    if (series.length > STEPS_KEPT) series.shift();
  };

  /** Whether the servers answer at all, for as long as a source has run into its deadline. */
  let away = false;
  let probing = false;
  /**
   * A statement that took too long is not asked again soon. Where it was the server that said nothing, all are, as soon as it does:
   * so it is where the smallest of all, `figures`, got no answer, or an empty statement gets none.
   */
  const probe = async (): Promise<void> => {
    if (probing || closed || !sources.some(({ error }) => error?.code === 'TIMED_OUT')) return;
    probing = true;
    const at = await connected().catch(() => undefined);
    const answers = await at?.db.ping().then(
      async () => (await at.bus.health?.())?.ready !== false,
      () => false,
    );
    probing = false;
    if (answers && away) {
      away = false;
      for (const source of sources) if (source.error) void ask(source, () => source.again());
    } else away = !answers;
  };
  const ask = async (source: (typeof sources)[number], refresh: () => Promise<void>): Promise<void> => {
    const before = source.state;
    const moved = moves.value?.length;
    await refresh();
    if (source === queues) note();
    // The shards are elsewhere now.
    if (source === moves && moved && moves.value?.length === 0) void ask(shards, () => shards.again());
    const after = source.state;
    if (source === figures && !before.error && after.error?.code === 'TIMED_OUT') away = true;
    if (closed || (after.ageMs === before.ageMs && !after.error)) return;
    collector.onChange();
  };

  const collector: TopCollector = {
    onChange: () => {},
    refresh(intervalMs) {
      if (closed) return;
      for (const source of sources) void ask(source, () => source.refresh(intervalMs));
      void probe();
    },
    snapshot: () =>
      snapshotOf({
        context: config.context,
        production: config.production,
        bus,
        backlogSeries: [...series],
        sources: sources.map((source) => source.state),
        known: {
          figures: figures.value,
          queues: queues.value?.queues,
          lanes: queues.value?.lanes,
          outbox: queues.value?.outbox,
          workers: roles.value?.workers,
          gateways: roles.value?.gateways,
          shards: shards.value,
          moves: moves.value,
          celebrities: celebrities.value,
          operations: operations.value,
        },
      }),
    async close() {
      closed = true;
      stop.abort();
      const at = await servers?.catch(() => undefined);
      await Promise.all([shutting, at && shut(at)]);
    },
  };

  try {
    const asked = Promise.all(sources.map((source) => ask(source, () => source.refresh())));
    await connected().catch((error) => {
      if (!AWAY.some((code) => isFeedctlError(error, code))) throw error;
    });
    await (options.complete ? asked : settleWithin(FIRST_MS, asked));
    if (options.complete && !queues.error) {
      await sleep(BETWEEN_LOOKS_MS);
      await queues.again();
    }
    return collector;
  } catch (error) {
    await collector.close();
    throw error;
  }
}
