import type { Config } from '../../config/config.ts';
import type { SnapshotSource } from '../../gateway/operator/clusterView.ts';
import { type ClusterSnapshot, MAX_ROWS } from '../../gateway/routes/clusterSchemas.ts';
import type { OperationRow } from '../../operations/table.ts';
import type { RateName } from '../../stats/process.ts';
import { openTop } from './collect.ts';
import type { TopGateway, TopSnapshot, TopWorker } from './snapshot.ts';

const INTERVAL_MS = 1_000;

/** Opens the source of a gateway's view of the cluster, with separate sessions. Throws as `openTop`. */
export async function openClusterView(config: Config): Promise<SnapshotSource> {
  const collector = await openTop(config, { complete: false });
  return {
    take() {
      collector.refresh(INTERVAL_MS);
      return clusterSnapshot(collector.snapshot());
    },
    close: () => collector.close(),
  };
}

/** Returns the part of a snapshot of `top` that a browser shows. Long lists are cut. */
export function clusterSnapshot(top: TopSnapshot): ClusterSnapshot {
  const { figures, queues, workers, gateways, backlog, backlogSeries } = top;
  const rate = (name: 'created' | 'deliveries' | 'pushed' | 'errors') =>
    figures?.rates[name].sliding['1m'].perSecond ?? 0;
  const latency = figures?.latencyMs['1m'];
  return {
    takenAt: top.takenAt,
    context: top.context,
    production: top.production,
    bus: top.bus,
    health: { state: top.health.state, problems: [...top.health.problems] },
    rates: figures && {
      created: rate('created'),
      deliveries: rate('deliveries'),
      pushed: rate('pushed'),
      errors: rate('errors'),
    },
    latencyMs: latency ? { p50: latency.p50, p99: latency.p99 } : null,
    series: figures && {
      stepSeconds: figures.series.stepSeconds,
      endsAt: figures.series.endsAt,
      created: [...figures.series.created],
      deliveries: [...figures.series.deliveries],
      pushed: [...figures.series.pushed],
      errors: [...figures.series.errors],
    },
    sockets: figures?.sockets ?? null,
    cacheHitRate: top.cache?.hitRate ?? null,
    backlog: backlog && { ...backlog },
    backlogSeries: [...backlogSeries],
    queues: cut(queues, ({ queue, ready, unacked, paused, ...row }) => ({
      queue,
      waiting: ready,
      inFlight: unacked,
      inPerSecond: row.inPerSecond,
      outPerSecond: row.outPerSecond,
      oldestAgeMs: row.oldestAgeMs,
      deadLetters: row.deadLetters,
      paused,
    })),
    workers: cut(workers, (worker) => ({
      ...processOf(worker),
      host: worker.host,
      version: worker.version,
      deliveriesPerSecond: perSecondOf(worker.work, 'deliveries'),
    })),
    gateways: cut(gateways, (gateway) => ({
      ...processOf(gateway),
      url: gateway.url,
      sockets: gateway.sockets,
      pushedPerSecond: perSecondOf(gateway.work, 'pushed'),
    })),
    operations: top.operations && running(top.operations).slice(0, MAX_ROWS),
    warnings:
      figures?.errors.slice(0, MAX_ROWS).map(({ level, code, text, count, lastAt, role, host }) => ({
        level,
        code,
        text,
        count,
        lastAt,
        role,
        host,
      })) ?? null,
  };
}

const processOf = ({ id, ready, work }: TopWorker | TopGateway) => ({
  id,
  ready,
  cpu: work?.cpu ?? null,
  memoryBytes: work?.memoryBytes ?? null,
});

/** Returns a rate of a process. A process that reports, but not this rate, has counted nothing. */
const perSecondOf = (work: TopWorker['work'], rate: RateName): number | null =>
  work && (work.perSecond[rate]?.['1m'] ?? 0);

const cut = <From, To>(rows: readonly From[] | null, of: (row: From) => To) =>
  rows && { total: rows.length, rows: rows.slice(0, MAX_ROWS).map(of) };

const running = (operations: readonly OperationRow[]) =>
  operations
    .filter(({ state }) => state === 'running')
    .map(({ id, kind, key, state, progress }) => ({
      id,
      kind,
      key,
      state,
      done: progress?.done ?? null,
      total: progress?.total ?? null,
      unit: progress?.unit ?? null,
      etaSeconds: progress?.etaSeconds ?? null,
    }));
