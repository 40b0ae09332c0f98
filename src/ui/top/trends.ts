import type { TopSnapshot } from '../../engine/monitoring/top/snapshot.ts';
import { formatBytes, formatCompact, formatMs } from '../terminal/format.ts';

export const STEP_MS = 5_000;
/** An hour. */
const MAX_STEPS = 720;

const perSecond = (value: number): string => `${formatCompact(value)}/s`;
const bytesPerSecond = (value: number): string => `${formatBytes(value)}/s`;
const percent = (value: number): string => `${Math.round(value * 100)}%`;

/** Values that charts show, with the text of a value. `most`: greatest value of the scale. */
export const TRENDS = {
  deliveries: { title: 'deliveries', format: perSecond },
  backlog: { title: 'backlog', format: formatCompact },
  planned: { title: 'posts', format: perSecond },
  pushed: { title: 'pushed', format: perSecond },
  p99: { title: 'p99', format: formatMs },
  errors: { title: 'errors', format: perSecond },
  transactions: { title: 'commits', format: perSecond },
  wal: { title: 'WAL', format: bytesPerSecond },
  sessions: { title: 'sessions', format: formatCompact },
  hits: { title: 'cache hits', format: percent, most: 1 },
  cpu: { title: 'CPU', format: percent, most: 1 },
  memory: { title: 'memory', format: percent, most: 1 },
  network: { title: 'network', format: bytesPerSecond },
  disk: { title: 'disk', format: bytesPerSecond },
} as const satisfies Record<string, { title: string; format: (value: number) => string; most?: number }>;
export type TrendName = keyof typeof TRENDS;

const sum = (a: number | null, b: number | null): number | null => (a === null || b === null ? null : a + b);

/** The newest value of each trend that is not reported as a series. null: not known. */
function levelsOf(snapshot: TopSnapshot): { readonly [name in TrendName]?: number | null } {
  const { backlog, figures, database, machine } = snapshot;
  return {
    backlog: backlog?.messages ?? null,
    p99: figures?.latencyMs['1m']?.p99 ?? null,
    transactions: database?.commitsPerSecond ?? null,
    wal: database?.walBytesPerSecond ?? null,
    sessions: database ? database.sessions.reduce((total, { count }) => total + count, 0) : null,
    hits: database?.cacheHitShare ?? null,
    cpu: machine?.cpuShare ?? null,
    memory: machine ? machine.memoryUsedBytes / machine.memoryBytes : null,
    network: machine ? sum(machine.receivedPerSecond, machine.sentPerSecond) : null,
    disk: machine ? sum(machine.diskReadPerSecond, machine.diskWrittenPerSecond) : null,
  };
}

const REPORTED = ['deliveries', 'planned', 'pushed', 'errors'] as const;
const isReported = (name: TrendName): boolean => (REPORTED as readonly TrendName[]).includes(name);

/** Values in steps of 5 s, gathered from the snapshots that were shown. */
export class Trends {
  readonly #values = new Map<TrendName, Map<number, number>>();
  readonly #maxSteps: number;
  #recorded: TopSnapshot | undefined;

  /** `maxSteps`: default an hour. A recording may be longer. */
  constructor(maxSteps = MAX_STEPS) {
    this.#maxSteps = maxSteps;
  }

  /** Trends of a single snapshot. */
  static of(snapshot: TopSnapshot): Trends {
    const trends = new Trends();
    trends.record(snapshot);
    return trends;
  }

  record(snapshot: TopSnapshot): void {
    const { figures, backlogSeries } = snapshot;
    const step = stepOf(snapshot);
    if (this.#recorded === undefined)
      for (const [i, messages] of backlogSeries.entries())
        this.#set('backlog', step - (backlogSeries.length - 1 - i), messages);
    if (figures && figures.series.endsAt !== this.#recorded?.figures?.series.endsAt) {
      const { series } = figures;
      const last = reportedStep(snapshot);
      const perStep = series.stepSeconds || 1;
      for (const name of REPORTED)
        for (const [i, count] of (series[name] ?? []).entries())
          this.#set(name, last - (series[name].length - 1 - i), count / perStep);
    }
    for (const [name, value] of Object.entries(levelsOf(snapshot)))
      if (value !== null) this.#set(name as TrendName, step, value);
    this.#recorded = snapshot;
  }

  /** Values of the steps up to that of the snapshot, the oldest first; null: not known. */
  until(snapshot: TopSnapshot, name: TrendName, steps: number): (number | null)[] {
    const known = this.#values.get(name);
    const last = isReported(name) ? reportedStep(snapshot) : stepOf(snapshot);
    return Array.from({ length: steps }, (_, i) => known?.get(last - (steps - 1 - i)) ?? null);
  }

  #set(name: TrendName, step: number, value: number): void {
    const known = this.#values.get(name) ?? new Map<number, number>();
    this.#values.set(name, known);
    known.set(step, value);
    if (known.size <= this.#maxSteps) return;
    for (const old of known.keys()) if (old <= step - this.#maxSteps) known.delete(old);
  }
}

const stepOf = ({ takenAt }: TopSnapshot): number => Math.floor(Date.parse(takenAt) / STEP_MS);
/** The last whole step that processes have reported, by the database's clock: that of `top` may differ. */
const reportedStep = ({ figures }: TopSnapshot): number => {
  const endsAt = figures?.series.endsAt;
  return endsAt ? Math.floor(Date.parse(endsAt) / STEP_MS) - 1 : 0;
};
