import { RateMeter } from '../../engine/util/rateMeter.ts';
import { bar, formatBytes, formatCount, formatDuration } from './format.ts';

export interface ProgressSnapshot {
  readonly title: string;
  readonly done: number;
  /** 0: not known. */
  readonly total: number;
  /** The unit `bytes` is shown as KiB, MiB and so on. */
  readonly unit: string;
  readonly perSecond: number;
  /** Time without any progress. Default: 0. */
  readonly idleSeconds?: number;
  readonly note?: string;
}

/** Time without progress that is shown in place of a rate and of the time left. */
const IDLE_SECONDS = 10;
const BAR_WIDTHS = [24, 12] as const;

/**
 * Returns amount, rate and time left, with a bar for a terminal. What does not fit into `width` is left out
 * in this order: half of the bar, note, rate, bar, title. The time left is never cut.
 */
export function progressText(snapshot: ProgressSnapshot, options: { bar: boolean; width?: number }): string {
  const { title, done, total, unit, perSecond, idleSeconds = 0, note } = snapshot;
  const { width = Number.POSITIVE_INFINITY } = options;
  const isIdle = idleSeconds >= IDLE_SECONDS && done < total;
  const amount = (value: number) => (unit === 'bytes' ? formatBytes(value) : formatCount(value));
  const counted = total > 0 ? `${amount(done)} of ${amount(total)}` : amount(done);
  const [wide, narrow] = BAR_WIDTHS.map((cells) =>
    options.bar && total > 0 ? bar(done / total, cells) : undefined,
  );
  const rate = perSecond > 0 && !isIdle ? `${amount(perSecond)}/s` : undefined;
  const left = total > done && rate ? `${formatDuration((total - done) / perSecond)} left` : undefined;
  const idle = isIdle ? `no progress for ${formatDuration(Math.floor(idleSeconds))}` : undefined;
  const amounts = unit === 'bytes' ? counted : `${counted} ${unit}`;
  const name = `${title}:`;
  const forms = [
    [name, wide, amounts, rate, left, idle, note],
    [name, narrow, amounts, rate, left, idle, note],
    [name, narrow, amounts, rate, left, idle],
    [name, narrow, amounts, left, idle],
    [name, amounts, left, idle],
    [amounts, left, idle],
  ].map((parts) => parts.filter(Boolean).join('  '));
  return forms.find((form) => form.length <= width) ?? forms.at(-1)!.slice(0, width);
}

export interface ProgressUpdate {
  readonly title?: string;
  readonly done: number;
  readonly total?: number;
  readonly unit: string;
  /** Part of `done` that an earlier run did. */
  readonly before?: number;
  readonly note?: string;
}

export interface ProgressLine {
  update(progress: ProgressUpdate): void;
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
  let meter: RateMeter | undefined;
  let drawnAt = stream.isTTY ? 0 : startedAt;
  let drawn = false;
  return {
    update(progress) {
      const { before = 0, total = 0 } = progress;
      if (progress.title !== undefined && progress.title !== current) {
        current = progress.title;
        startedAt = now();
        meter = undefined;
      }
      meter ??= new RateMeter(before);
      meter.add((now() - startedAt) / 1_000, progress.done);
      if (now() - drawnAt < (stream.isTTY ? REDRAW_MS : LOG_INTERVAL_MS)) return;
      drawnAt = now();
      const { perSecond, idleSeconds } = meter;
      const text = progressText(
        { ...progress, title: current, total, perSecond, idleSeconds },
        { bar: stream.isTTY, ...(stream.isTTY && { width: (stream.columns || 80) - 1 }) },
      );
      stream.write(stream.isTTY ? `\r\u001b[2K${text}` : `${text}\n`);
      drawn = stream.isTTY;
    },
    end() {
      if (drawn) stream.write('\r\u001b[2K');
      drawn = false;
    },
  };
}
