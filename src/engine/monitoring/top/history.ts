import { deflateRawSync, inflateRawSync } from 'node:zlib';
import type { TopSnapshot } from './snapshot.ts';
import { parseSnapshot, snapshotText } from './snapshotText.ts';

/** Fast, and a third larger than the default. */
const LEVEL = 1;
/** Time between two snapshots that are kept. */
const STEP_MS = 5_000;
const HOUR_MS = 3_600_000;
/** Maximum size of all kept snapshots, compressed. */
const MAX_BYTES = 16 * 2 ** 20;
/** So many times its duration passes between two snapshots: 10,000 workers take some 50 ms. */
const REST = 200;

interface Kept {
  readonly atMs: number;
  readonly data: Buffer;
}

/** Snapshots in the order of time, compressed: an idle cluster takes 1.5 KB each. */
export class History {
  readonly #kept: Kept[] = [];
  #bytes = 0;
  #nextAt = 0;
  #last: { atMs: number; snapshot: TopSnapshot } | undefined;

  /** Times of the snapshots in unix milliseconds, the oldest first. */
  get times(): readonly number[] {
    return this.#kept.map(({ atMs }) => atMs);
  }

  /** Keeps one snapshot in 5 s for an hour. */
  keep(snapshot: TopSnapshot): void {
    const atMs = Date.parse(snapshot.takenAt);
    if (atMs < this.#nextAt && this.#kept.length > 0) return;
    const startedAt = performance.now();
    this.add(atMs, snapshotText(snapshot));
    this.#nextAt = atMs + Math.max(STEP_MS, (performance.now() - startedAt) * REST);
    while (this.#kept.length > 1 && (this.#bytes > MAX_BYTES || this.#kept[0]!.atMs < atMs - HOUR_MS))
      this.#bytes -= this.#kept.shift()!.data.length;
  }

  /** Adds the line of a snapshot. A clock that went back does not change the order. */
  add(atMs: number, line: string): void {
    const data = deflateRawSync(line, { level: LEVEL });
    this.#bytes += data.length;
    this.#kept.push({ atMs: Math.max(atMs, (this.#kept.at(-1)?.atMs ?? 0) + 1), data });
  }

  /** Returns the last snapshot at that time or before, or else the first one. */
  at(atMs: number): TopSnapshot | undefined {
    const kept = this.#kept.findLast((one) => one.atMs <= atMs) ?? this.#kept[0];
    if (!kept) return undefined;
    if (this.#last?.atMs === kept.atMs) return this.#last.snapshot;
    const snapshot = parseSnapshot(inflateRawSync(kept.data).toString('utf8'), 'a snapshot in memory');
    this.#last = { atMs: kept.atMs, snapshot };
    return snapshot;
  }
}
