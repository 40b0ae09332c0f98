import type { SourceState } from '../../../engine/monitoring/top/source.ts';
import { ago, numberColumn } from '../../columns/column.ts';
import { formatMs } from '../../terminal/format.ts';
import { type PaneId, pane } from '../pane.ts';

const PANE_OF_SOURCE: Readonly<Record<string, PaneId>> = {
  figures: 'errors',
  queues: 'queues',
  roles: 'workers',
  operations: 'operations',
  celebrities: 'users',
  shards: 'shards',
  moves: 'shards',
  storage: 'database',
  database: 'database',
  machine: 'machines',
  events: 'events',
};

export const SOURCES_PANE = pane<SourceState>({
  id: 'sources',
  hotkey: '8',
  title: 'Sources',
  short: 'Src',
  source: '',
  rows: ({ sources }) => sources,
  key: (row) => row.name,
  empty: () => 'none',
  columns: [
    { title: 'source', width: 11, priority: 0, text: (row) => row.name },
    {
      title: 'age',
      width: 8,
      right: true,
      priority: 1,
      text: (row) => (row.ageMs === null ? 'never' : ago(row.ageMs)),
      value: (row) => row.ageMs,
    },
    numberColumn({ title: 'took', width: 8, priority: 2, of: (row) => row.tookMs, format: formatMs }),
    numberColumn({ title: 'every', width: 8, priority: 3, of: (row) => row.everyMs, format: ago }),
    {
      title: 'fault',
      width: 20,
      maxWidth: 120,
      priority: 4,
      text: ({ error }) => (error ? `for ${ago(error.forMs)}: ${error.message}` : ''),
      tone: () => 'bad',
    },
  ],
  detail: (row) => [
    ['source', row.name],
    ['last answer', row.ageMs === null ? 'never' : `${ago(row.ageMs)} ago`],
    ['it took', row.tookMs === null ? '-' : formatMs(row.tookMs)],
    ['read every', ago(row.everyMs)],
    ['fault', row.error ? `${row.error.code}: ${row.error.message}` : 'none'],
  ],
  leadsTo: ({ name }) => {
    const id = PANE_OF_SOURCE[name];
    return id && { pane: id };
  },
});
