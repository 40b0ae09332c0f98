import type { RateName } from '../../engine/stats/process.ts';
import type { ClusterTotals } from '../../engine/stats/totals.ts';
import { WINDOW_NAMES, WINDOWS, type WindowName } from '../../engine/stats/windows.ts';
import { formatDuration, formatMs, formatRate } from '../terminal/format.ts';
import { renderTable } from '../terminal/table.ts';

export const RATE_TITLES: Record<RateName, string> = {
  created: 'posts made at gateways',
  planned: 'posts planned',
  merged: 'of them merged when read',
  deliveries: 'deliveries',
  pushed: 'pushed to sockets',
  errors: 'warnings and errors',
};

/**
 * Returns the windows to show, with their titles. Those that are longer than the time that has passed are one
 * column, which is called by that time.
 */
function shownWindows(countedSeconds: number): [name: WindowName, title: string][] {
  const whole = WINDOW_NAMES.filter((window) => WINDOWS[window] <= Math.max(1, countedSeconds));
  const next = WINDOW_NAMES[whole.length];
  const titled = whole.map((window): [WindowName, string] => [window, window.replace(/(\d+)/, '$1 ')]);
  const passed = countedSeconds > WINDOWS[whole.at(-1)!];
  return next && passed ? [...titled, [next, formatDuration(countedSeconds)]] : titled;
}

/** Rates a second over the sliding windows: the last second, minute, five minutes and hour. */
export function ratesTable(
  { rates, latencyMs, countedSeconds }: Pick<ClusterTotals, 'rates' | 'latencyMs' | 'countedSeconds'>,
  options: { borders: boolean },
): string {
  const windows = shownWindows(countedSeconds);
  return renderTable(
    ['a second, over the last', ...windows.map(([, title]) => title)],
    [
      ...(Object.keys(RATE_TITLES) as RateName[]).map((name) => [
        RATE_TITLES[name],
        ...windows.map(([window]) => formatRate(rates[name].sliding[window].perSecond)),
      ]),
      [
        'post to feed, p50 / p99',
        ...windows.map(([window]) => {
          const latency = latencyMs[window];
          return latency ? `${formatMs(latency.p50)} / ${formatMs(latency.p99)}` : '';
        }),
      ],
    ],
    options,
  );
}
