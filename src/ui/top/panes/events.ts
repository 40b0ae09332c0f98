import type { TopEvent } from '../../../engine/monitoring/top/events.ts';
import { numberColumn } from '../../columns/column.ts';
import { clock, pane } from '../pane.ts';

const stateOf = ({ dispatchedAt }: TopEvent): string => (dispatchedAt ? 'dispatched' : 'waiting');

/** The newest event is the first row, so an untouched pane follows the log. */
export const EVENTS_PANE = pane<TopEvent>({
  id: 'events',
  hotkey: 'e',
  title: 'Events',
  short: 'Events',
  source: 'events',
  asks: 'events',
  rows: ({ events }) => events,
  key: (row) => String(row.id),
  empty: () => 'the log has no event',
  columns: [
    {
      title: 'time',
      width: 8,
      priority: 1,
      text: (row) => clock(row.occurredAt.toISOString()),
      value: (row) => row.occurredAt.getTime(),
    },
    { title: 'type', width: 14, priority: 0, text: (row) => row.type },
    numberColumn({ title: 'user', width: 16, priority: 2, of: (row) => row.aggregateId, format: String }),
    numberColumn({ title: 'subject', width: 16, priority: 3, of: (row) => row.subjectId, format: String }),
    {
      title: 'state',
      width: 10,
      priority: 4,
      text: stateOf,
      tone: (row) => (row.dispatchedAt ? 'dim' : 'warn'),
    },
    numberColumn({ title: 'event', width: 16, priority: 5, of: (row) => row.id, format: String }),
  ],
  detail: (row) => [
    ['event', String(row.id)],
    ['type', row.type],
    ['occurred', row.occurredAt.toISOString()],
    ['dispatched', row.dispatchedAt?.toISOString() ?? 'not yet'],
    ['user', String(row.aggregateId)],
    [row.type.startsWith('follow') ? 'followee' : 'post', String(row.subjectId)],
    ['more', `feedctl events tail --user ${row.aggregateId}`],
  ],
  leadsTo: (row) => ({ pane: 'users', key: String(row.aggregateId) }),
});
