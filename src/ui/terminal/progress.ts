import { bar, formatBytes, formatCount, formatDuration } from './format.ts';

export interface ProgressSnapshot {
  readonly title: string;
  readonly done: number;
  /** 0: not known. */
  readonly total: number;
  /** The unit `bytes` is shown as KiB, MiB and so on. */
  readonly unit: string;
  readonly elapsedSeconds: number;
  /** Part of `done` that an earlier run did. */
  readonly before?: number;
  readonly note?: string;
}

/** Returns amount, rate and time left, with a bar for a terminal. */
export function progressText(snapshot: ProgressSnapshot, options: { bar: boolean }): string {
  const { title, done, total, unit, elapsedSeconds, before = 0, note } = snapshot;
  const rate = elapsedSeconds > 0 ? (done - before) / elapsedSeconds : 0;
  const parts = [`${title}:`];
  if (options.bar && total > 0) parts.push(bar(done / total, 24));
  const amount = (value: number) => (unit === 'bytes' ? formatBytes(value) : formatCount(value));
  const counted = total > 0 ? `${amount(done)} of ${amount(total)}` : amount(done);
  parts.push(unit === 'bytes' ? counted : `${counted} ${unit}`);
  if (rate > 0) parts.push(`${amount(rate)}/s`);
  if (total > done && rate > 0) parts.push(`${formatDuration((total - done) / rate)} left`);
  if (note) parts.push(note);
  return parts.join('  ');
}

export interface ProgressLine {
  update(progress: {
    title?: string;
    done: number;
    total?: number;
    unit: string;
    before?: number;
    note?: string;
  }): void;
  /** Removes the line. */
  end(): void;
}

const REDRAW_MS = 100;
const LOG_INTERVAL_MS = 5_000;

/** Draws one line again and again on a terminal, or prints a plain line every 5 s elsewhere. */
export function openProgress(
  title: string,
  stream: NodeJS.WriteStream,
  now: () => number = Date.now,
): ProgressLine {
  let startedAt = now();
  let current = title;
  let drawnAt = stream.isTTY ? 0 : startedAt;
  let drawn = false;
  return {
    update(progress) {
      if (progress.title !== undefined && progress.title !== current) {
        current = progress.title;
        startedAt = now();
      }
      if (now() - drawnAt < (stream.isTTY ? REDRAW_MS : LOG_INTERVAL_MS)) return;
      drawnAt = now();
      const text = progressText(
        {
          ...progress,
          title: current,
          total: progress.total ?? 0,
          elapsedSeconds: (now() - startedAt) / 1000,
        },
        { bar: stream.isTTY },
      );
      stream.write(stream.isTTY ? `\r\u001b[2K${text.slice(0, (stream.columns || 80) - 1)}` : `${text}\n`);
      drawn = stream.isTTY;
    },
    end() {
      if (drawn) stream.write('\r\u001b[2K');
      drawn = false;
    },
  };
}
