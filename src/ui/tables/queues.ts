import type { Above, QueueDetail } from '../../engine/queues/list.ts';
import { formatAge } from '../columns/queues.ts';
import { formatCount } from '../terminal/format.ts';
import { describeComposition } from './messages.ts';

export const detailLines = (details: readonly QueueDetail[]): string[] =>
  details.flatMap(({ queue, composition, reason }) =>
    composition
      ? [`${queue}, the first ${describeComposition(composition).join('\n')}`]
      : [`${queue}: not read: ${reason}`],
  );

/** One line for a queue that exceeds a limit of `queue list`. */
export function aboveLine({ queue, what, value, limit }: Above): string {
  if (what === 'ready') return `${queue}: ${formatCount(value!)} ready, more than ${formatCount(limit)}`;
  const age = value === null ? 'of unknown age, as the queue has no consumer' : `${formatAge(value)} old`;
  return `${queue}: the oldest message is ${age}, the limit is ${formatAge(limit)}`;
}
