import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type { FeedCache } from '../cache/cache.ts';
import type { Gateway } from '../gateway/gateway.ts';
import { messageOf } from '../model/errors.ts';
import type { Resources } from '../resilience/resources.ts';
import type { CacheCounters } from '../stats/process.ts';
import { deleteStats, saveStats } from '../stats/table.ts';
import { settleWithin } from '../util/deadline.ts';
import type { Cluster } from './cluster.ts';

const REPORT_INTERVAL_MS = 1_000;
/** A telling that takes longer is given up: what it says is old by then. */
const REPORT_TIMEOUT_MS = 10_000;
/** Nobody waits longer for a database that says nothing when the process ends: its row is forgotten all the same. */
const SHUTDOWN_TIMEOUT_MS = 2_000;

/** The roles of this process, as far as they are started: those of a gateway that comes back have another id. */
export interface RunningRoles {
  worker?: { readonly id: string } | undefined;
  gateway?: Pick<Gateway, 'id' | 'sockets' | 'pushed' | 'caughtUp'> | undefined;
  cache?: FeedCache | undefined;
}

/** Has the process say once a second what it does, until it ends. Returns what it says it of, to be filled in. */
export function startReporting(cluster: Cluster, resources: Resources): RunningRoles {
  const { stats, db, log } = cluster;
  const roles: RunningRoles = {};
  if (!stats) return roles;
  const id = randomUUID();
  const host = hostname();
  let pushed = 0;
  let cpuAt = { at: performance.now(), usage: process.cpuUsage() };
  let reportedErrors = -1;
  let failing = false;
  const report = async (): Promise<void> => {
    const { worker, gateway, cache } = roles;
    if (gateway) {
      stats.count('pushed', gateway.pushed - pushed);
      pushed = gateway.pushed;
    }
    const { user, system } = process.cpuUsage(cpuAt.usage);
    const cpu = (user + system) / 1_000 / Math.max(1, performance.now() - cpuAt.at);
    cpuAt = { at: performance.now(), usage: process.cpuUsage() };
    const state = {
      worker: worker?.id ?? null,
      gateway: gateway?.id ?? null,
      sockets: gateway?.sockets ?? null,
      memoryBytes: process.memoryUsage.rss(),
      cpu,
    };
    const version = stats.errorsVersion;
    const errors = version === reportedErrors ? undefined : stats.errors;
    const reported = {
      figures: {
        ...stats.report(),
        ...(gateway && { live: gateway.caughtUp }),
        ...(cache && { cache: cacheCounters(cache) }),
      },
      errors,
    };
    const fresh = await db.withSession(
      (session) => saveStats(session, { id, host, pid: process.pid }, state, reported),
      { deadlineMs: REPORT_TIMEOUT_MS },
    );
    reportedErrors = fresh && !errors ? -1 : version;
    failing = false;
  };
  let reporting: Promise<void> | undefined;
  const timer = setInterval(() => {
    reporting ??= report()
      .catch((error) => {
        // While the database is away, once is enough.
        if (!failing) log.warn({ reason: messageOf(error) }, 'statistics not reported');
        failing = true;
      })
      .finally(() => {
        reporting = undefined;
      });
  }, REPORT_INTERVAL_MS);
  resources.add('statistics', async () => {
    clearInterval(timer);
    await settleWithin(
      SHUTDOWN_TIMEOUT_MS,
      Promise.resolve(reporting).then(() =>
        db.withSession((session) => deleteStats(session, id), { deadlineMs: SHUTDOWN_TIMEOUT_MS }),
      ),
    );
  });
  return roles;
}

function cacheCounters(cache: FeedCache): CacheCounters {
  const { hits, misses } = cache.stats();
  return { kind: cache.kind, ready: cache.health().ready, hits, misses };
}
