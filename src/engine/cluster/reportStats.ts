import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type { FeedCache } from '../cache/cache.ts';
import type { Gateway } from '../gateway/gateway.ts';
import { messageOf } from '../model/errors.ts';
import type { Resources } from '../resilience/resources.ts';
import type { CacheCounters, ProcessStats, StatsReport } from '../stats/process.ts';
import { deleteStats, type ProcessState, saveStats } from '../stats/table.ts';
import { settleWithin } from '../util/deadline.ts';
import { everyTick } from '../util/ticks.ts';
import type { Cluster } from './cluster.ts';

const REPORT_INTERVAL_MS = 1_000;
/** The row is written at least this often, because its time shows that the process is alive. */
const UNCHANGED_MS = 5_000;
/** A report that takes longer is abandoned: its values are too old by then. */
const REPORT_TIMEOUT_MS = 10_000;
/** Shutdown waits at most this long to delete the row. A row that stays is ignored after 15 s. */
const SHUTDOWN_TIMEOUT_MS = 2_000;

/**
 * The roles of a process, as far as they have started. A gateway that rejoins the cluster gets
 * another id.
 */
export interface RunningRoles {
  worker?: { readonly id: string; readonly rowsWritten: number };
  gateway?: Pick<Gateway, 'id' | 'sockets' | 'pushed' | 'caughtUp'>;
  cache?: FeedCache;
}

export interface StatsReporter {
  /** Adds roles to the reports. The first report about them begins immediately. */
  add(roles: RunningRoles): void;
}

/** Reports the statistics of this process once a second until the resources are released. */
export function startReporting(
  { stats, db, log }: Pick<Cluster, 'stats' | 'db' | 'log'>,
  resources: Resources,
): StatsReporter {
  if (!stats) return { add() {} };
  const process = new ReportingProcess(stats, db);
  let failing = false;
  let reporting: Promise<void> | undefined;
  const report = () => {
    reporting ??= process
      .report()
      .then(() => {
        failing = false;
      })
      .catch((error) => {
        // One warning for each outage of the database.
        if (!failing) log.warn({ reason: messageOf(error) }, 'statistics not reported');
        failing = true;
      })
      .finally(() => {
        reporting = undefined;
      });
  };
  const end = everyTick(REPORT_INTERVAL_MS, report);
  resources.add('statistics', async () => {
    end();
    await settleWithin(
      SHUTDOWN_TIMEOUT_MS,
      Promise.resolve(reporting).then(() => process.remove()),
    );
  });
  return {
    add(roles) {
      process.add(roles);
      report();
    },
  };
}

/** This process, as one row of the statistics table. */
class ReportingProcess {
  readonly #stats: ProcessStats;
  readonly #db: Cluster['db'];
  readonly #identity = { id: randomUUID(), host: hostname(), pid: process.pid };
  readonly #roles: RunningRoles = {};
  #pushed = 0;
  #cpu = { at: performance.now(), usage: process.cpuUsage() };
  /** What the row says, without what changes all the time, and since when. */
  #saved: { readonly text: string; readonly at: number } | undefined;
  /** Version of the errors in the row; -1: the row has none of them. */
  #reportedErrors = -1;

  constructor(stats: ProcessStats, db: Cluster['db']) {
    this.#stats = stats;
    this.#db = db;
  }

  add(roles: RunningRoles): void {
    Object.assign(this.#roles, roles);
  }

  /** Writes the row if a figure has changed or the row is old. Errors are sent only when they changed. */
  async report(): Promise<void> {
    const { gateway } = this.#roles;
    if (gateway) {
      this.#stats.count('pushed', gateway.pushed - this.#pushed);
      this.#pushed = gateway.pushed;
    }
    const version = this.#stats.errorsVersion;
    const errors = version === this.#reportedErrors ? undefined : this.#stats.errors;
    const figures = this.#figures();
    const text = JSON.stringify([this.#roleState(), { ...figures, at: 0 }]);
    const isKnown = text === this.#saved?.text && !errors;
    if (isKnown && performance.now() - this.#saved!.at < UNCHANGED_MS - REPORT_INTERVAL_MS / 2) return;
    const state = this.#state();
    const created = await this.#db.withSession(
      (session) => saveStats(session, this.#identity, state, { figures, errors }),
      { deadlineMs: REPORT_TIMEOUT_MS },
    );
    this.#saved = { text, at: performance.now() };
    // A row that was deleted meanwhile had the errors: the next report sends them again.
    this.#reportedErrors = created && !errors ? -1 : version;
  }

  async remove(): Promise<void> {
    await this.#db.withSession((session) => deleteStats(session, this.#identity.id), {
      deadlineMs: SHUTDOWN_TIMEOUT_MS,
    });
  }

  #roleState(): Pick<ProcessState, 'worker' | 'gateway' | 'sockets'> {
    const { worker, gateway } = this.#roles;
    return { worker: worker?.id ?? null, gateway: gateway?.id ?? null, sockets: gateway?.sockets ?? null };
  }

  #state(): ProcessState {
    const { user, system } = process.cpuUsage(this.#cpu.usage);
    const cpu = (user + system) / 1_000 / Math.max(1, performance.now() - this.#cpu.at);
    this.#cpu = { at: performance.now(), usage: process.cpuUsage() };
    return {
      ...this.#roleState(),
      memoryBytes: process.memoryUsage.rss(),
      cpu,
    };
  }

  #figures(): StatsReport {
    const { worker, gateway, cache } = this.#roles;
    return {
      ...this.#stats.report(),
      ...(worker && { worker: this.#stats.workerCounters(worker.rowsWritten) }),
      ...(gateway && { live: gateway.caughtUp }),
      ...(cache && { cache: cacheCounters(cache) }),
    };
  }
}

function cacheCounters(cache: FeedCache): CacheCounters {
  const { hits, misses, refills, failures } = cache.stats();
  return { kind: cache.kind, ready: cache.health().ready, hits, misses, refills, failures };
}
