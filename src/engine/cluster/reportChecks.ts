import type { FeedCache } from '../cache/cache.ts';
import { type Check, faultOf } from '../model/check.ts';
import { ERRORS, type ErrorCode } from '../model/errors.ts';
import type { Resources } from '../resilience/resources.ts';
import { saveChecks } from '../store/processes.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { Coalesced } from '../util/coalesce.ts';
import { everyTick } from '../util/ticks.ts';
import type { Cluster } from './cluster.ts';
import type { RunningRoles } from './reportStats.ts';

const CHECK_INTERVAL_MS = 10_000;

/**
 * Uses each dependency as this role needs it, every 10 s, and reports what fails: in the role's row, which
 * `doctor` reads, in a metric, and in the log when it begins and ends. The shell of an operator may reach
 * servers that the role does not. Runs until the resources are released.
 */
export function startCheckReports(
  cluster: Pick<Cluster, 'db' | 'readiness' | 'metrics' | 'log'>,
  resources: Resources,
  roles: Pick<RunningRoles, 'worker' | 'gateway' | 'cache'>,
): void {
  const { db, readiness, log, metrics } = cluster;
  const faults = new Faults(metrics);
  let reported: string | undefined;
  const reports = new Coalesced(async () => {
    const checks = [...(await faultsOf(readiness.check())), ...cacheFaults(roles.cache)];
    const { begun, ended } = faults.replace(checks);
    for (const { name, detail } of begun)
      log.warn({ code: name, reason: detail }, 'this role cannot use everything that it needs');
    for (const code of ended) log.info({ code }, 'this fault is over');
    const text = JSON.stringify(checks);
    // The row of a gateway that was declared dead is another one from then on.
    const id = roles.gateway?.id ?? roles.worker?.id;
    if (reported === `${id} ${text}`) return;
    if (roles.worker) await saveChecks(db, 'workers', roles.worker.id, text);
    if (roles.gateway) await saveChecks(db, 'gateways', roles.gateway.id, text);
    reported = `${id} ${text}`;
  });
  // The database may be what fails: then the heartbeat is missing too.
  const report = () => void reports.run().catch(() => {});
  const end = everyTick(CHECK_INTERVAL_MS, report);
  report();
  resources.add('checks', async () => {
    end();
    await reports.idle();
    faults.close();
  });
}

async function faultsOf(check: Promise<void>): Promise<Check[]> {
  try {
    await check;
    return [];
  } catch (error) {
    const fault = faultOf('INTERNAL', error);
    return [{ fix: ERRORS[fault.name as ErrorCode].fix, ...fault }];
  }
}

function cacheFaults(cache: FeedCache | undefined): Check[] {
  const health = cache?.health();
  if (!health || health.ready) return [];
  const { code = 'CACHE_UNREACHABLE', detail, fix } = health;
  // Feeds are read from the database meanwhile.
  return [{ name: code, status: 'warning', detail, fix: fix ?? ERRORS[code].fix }];
}

/** The faults of this process by code, as a metric. */
class Faults {
  readonly #metrics: Metrics | undefined;
  readonly #unwatch = new Map<string, () => void>();
  #present = new Set<string>();

  constructor(metrics: Metrics | undefined) {
    this.#metrics = metrics;
  }

  /** Returns the faults that were not present before, and the codes of those that are over. */
  replace(checks: readonly Check[]): { begun: Check[]; ended: string[] } {
    const before = this.#present;
    this.#present = new Set(checks.map(({ name }) => name));
    for (const code of this.#present) {
      // Exported as 0 from then on, so that an alert sees the end.
      const read = () => (this.#present.has(code) ? 1 : 0);
      if (this.#metrics && !this.#unwatch.has(code))
        this.#unwatch.set(code, this.#metrics.watch('feedctl_role_fault', read, { code }));
    }
    return {
      begun: checks.filter(({ name }) => !before.has(name)),
      ended: [...before].filter((code) => !this.#present.has(code)),
    };
  }

  close(): void {
    for (const stop of this.#unwatch.values()) stop();
  }
}
