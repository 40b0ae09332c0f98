import type { Above, QueueDetail, QueueRow } from '../../engine/queues/list.ts';
import { formatCount, formatDuration } from '../terminal/format.ts';
import { renderTable, type TableOptions } from '../terminal/table.ts';
import { describeComposition } from './messages.ts';

const rate = (perSecond: number | null): string =>
  perSecond === null ? '' : perSecond < 10 ? String(perSecond) : formatCount(perSecond);
export const formatAge = (ms: number | null): string =>
  ms === null ? 'not known' : formatDuration(ms / 1_000);

export const formatEta = ({ paused, ready, unacked, inPerSecond, etaSeconds }: QueueRow): string => {
  if (ready + unacked === 0) return 'empty';
  if (paused) return 'PAUSED';
  if (etaSeconds !== null) return formatDuration(etaSeconds);
  return inPerSecond === null ? '' : 'never, as it goes';
};

/** Gateways' queues are named by their ids, which are long. */
export const queuesTable = (queues: readonly QueueRow[], options: TableOptions): string =>
  renderTable(
    ['queue', 'ready', 'unacked', 'in/s', 'out/s', 'oldest', 'empty in', 'dead letters'],
    queues.map((row) => [
      row.queue,
      row.ready,
      row.unacked,
      rate(row.inPerSecond),
      rate(row.outPerSecond),
      formatAge(row.oldestAgeMs),
      formatEta(row),
      row.deadLetters,
    ]),
    options,
  );

export const detailLines = (details: readonly QueueDetail[]): string[] =>
  details.flatMap(({ queue, composition, reason }) =>
    composition
      ? [`${queue}, the first ${describeComposition(composition).join('\n')}`]
      : [`${queue}: not looked into: ${reason}`],
  );

export const aboveLine = ({ queue, what, value, limit }: Above): string =>
  what === 'ready'
    ? `${queue}: ${formatCount(value!)} ready, more than ${formatCount(limit)}`
    : `${queue}: the oldest is ${value === null ? 'of an age that is not known, as nobody consumes it' : `${formatAge(value)} old`}, the limit is ${formatAge(limit)}`;
