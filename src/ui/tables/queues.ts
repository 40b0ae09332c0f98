import type { Above, QueueDetail, QueueRow } from '../../engine/queues/list.ts';
import { renderList } from '../columns/column.ts';
import { formatAge, QUEUE_COLUMNS } from '../columns/queues.ts';
import { formatCount } from '../terminal/format.ts';
import type { TableOptions } from '../terminal/table.ts';
import { describeComposition } from './messages.ts';

export const queuesTable = (queues: readonly QueueRow[], options: TableOptions): string =>
  renderList(QUEUE_COLUMNS, queues, options);

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
