import type { RateName } from '../../engine/stats/process.ts';
import type { ClusterTotals } from '../../engine/stats/totals.ts';
import { WINDOW_NAMES } from '../../engine/stats/windows.ts';
import { formatMs, formatRate } from '../terminal/format.ts';
import { renderTable } from '../terminal/table.ts';

export const RATE_TITLES: Record<RateName, string> = {
  created: 'posts made at gateways',
  planned: 'posts planned',
  merged: 'of them merged when read',
  deliveries: 'deliveries',
  pushed: 'pushed to sockets',
  errors: 'warnings and errors',
};

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
