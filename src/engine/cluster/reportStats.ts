import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type { FeedCache } from '../cache/cache.ts';
import type { Gateway } from '../gateway/gateway.ts';
import { messageOf } from '../model/errors.ts';
import type { Resources } from '../resilience/resources.ts';
import type { CacheFigures } from '../stats/process.ts';
import { forgetFigures, tellFigures } from '../stats/table.ts';
import { atMost } from '../util/deadline.ts';
import type { Cluster } from './cluster.ts';

const EVERY_MS = 1_000;
/** A telling that takes longer is given up: what it says is old by then. */
const TELL_MS = 10_000;
/** Nobody waits longer for a database that says nothing when the process ends: its row is forgotten all the same. */
const LAST_MS = 2_000;

/** The roles of this process, as far as they are started: those of a gateway that comes back have another id. */
export interface RunningRoles {
  worker?: { readonly id: string } | undefined;
  gateway?: Pick<Gateway, 'id' | 'sockets' | 'pushed' | 'live'> | undefined;
  cache?: FeedCache | undefined;
}

/** Has the process say once a second what it does, until it ends. Returns what it says it of, to be filled in. */
export function startTelling(cluster: Cluster, resources: Resources): RunningRoles {
  const { figures, db, log } = cluster;
  const roles: RunningRoles = {};
  if (!figures) return roles;
  const id = randomUUID();
  const host = hostname();
  let pushed = 0;
  let cpuAt = { at: performance.now(), usage: process.cpuUsage() };
  let errorsTold = -1;
  let failing = false;
  const tell = async (): Promise<void> => {
    const { worker, gateway, cache } = roles;
    if (gateway) {
      figures.count('pushed', gateway.pushed - pushed);
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
    const version = figures.errorsVersion;
    const errors = version === errorsTold ? undefined : figures.errors;
    const told = {
      figures: {
        ...figures.tell(),
        ...(gateway && { live: gateway.live }),
        ...(cache && { cache: cacheFigures(cache) }),
      },
      errors,
    };
    const fresh = await db.withSession(
      (session) => tellFigures(session, { id, host, pid: process.pid }, state, told),
      { deadlineMs: TELL_MS },
    );
    errorsTold = fresh && !errors ? -1 : version;
    failing = false;
  };
  let telling: Promise<void> | undefined;
  const timer = setInterval(() => {
    telling ??= tell()
      .catch((error) => {
        // While the database is away, once is enough.
        if (!failing) log.warn({ reason: messageOf(error) }, 'figures not told');
        failing = true;
      })
      .finally(() => {
        telling = undefined;
      });
  }, EVERY_MS);
  resources.add('figures', async () => {
    clearInterval(timer);
    await atMost(
      LAST_MS,
      Promise.resolve(telling).then(() =>
        db.withSession((session) => forgetFigures(session, id), { deadlineMs: LAST_MS }),
      ),
    );
  });
  return roles;
}

function cacheFigures(cache: FeedCache): CacheFigures {
  const { hits, misses } = cache.stats();
  return { kind: cache.kind, ready: cache.health().ready, hits, misses };
}
