import type { RateName } from '../../engine/stats/process.ts';
import type { ClusterTotals } from '../../engine/stats/totals.ts';
import { WINDOW_NAMES } from '../../engine/stats/windows.ts';
import { formatCount } from '../terminal/format.ts';
import { renderTable } from '../terminal/table.ts';

export const RATE_TITLES: Record<RateName, string> = {
  created: 'posts made at gateways',
  planned: 'posts planned',
  merged: 'of them merged when read',
  deliveries: 'deliveries',
  pushed: 'pushed to sockets',
  errors: 'warnings and errors',
};

/** 0, 0.3, 12.5, 1,234 */
export const formatRate = (perSecond: number): string =>
  perSecond > 0 && perSecond < 100 && !Number.isInteger(perSecond)
    ? String(perSecond)
    : formatCount(perSecond);

/** 0.8 ms, 12 ms, 2.4 s */
export function formatMs(ms: number): string {
  if (ms < 9.95) return `${ms.toFixed(1)} ms`;
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  return ms < 59_950 ? `${(ms / 1_000).toFixed(1)} s` : `${Math.round(ms / 1_000)} s`;
}

/** Rates a second over the sliding windows: the last second, minute, five minutes and hour. */
export const ratesTable = (
  { rates, latencyMs }: Pick<ClusterTotals, 'rates' | 'latencyMs'>,
  options: { borders: boolean },
): string =>
  renderTable(
    ['a second, over the last', ...WINDOW_NAMES.map((window) => window.replace(/(\d+)/, '$1 '))],
    [
      ...(Object.keys(RATE_TITLES) as RateName[]).map((name) => [
        RATE_TITLES[name],
        ...WINDOW_NAMES.map((window) => formatRate(rates[name].sliding[window].perSecond)),
      ]),
      [
        'post to feed, p50 / p99',
        ...WINDOW_NAMES.map((window) => {
          const latency = latencyMs[window];
          return latency ? `${formatMs(latency.p50)} / ${formatMs(latency.p99)}` : '';
        }),
      ],
    ],
    options,
  );
