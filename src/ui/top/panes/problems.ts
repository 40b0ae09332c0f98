import type { TopAbout } from '../../../engine/monitoring/top/health.ts';
import type { TopSnapshot } from '../../../engine/monitoring/top/snapshot.ts';
import type { ClusterError } from '../../../engine/stats/totals.ts';
import { clock, type Jump, pane } from '../pane.ts';
import { ERRORS_PANE } from './errors.ts';

/** A problem of the cluster, or a line of the log of a role. */
interface ProblemRow {
  readonly kind: 'down' | 'degraded' | 'error' | 'warn';
  readonly last: string;
  readonly text: string;
  readonly about: TopAbout | ClusterError;
}

const isAbout = (about: ProblemRow['about']): about is TopAbout => 'list' in about;

const problemsOf = ({ health, figures, takenAt }: TopSnapshot): ProblemRow[] => [
  ...health.causes.map(({ state, text, about }) => ({ kind: state, last: takenAt, text, about })),
  ...(figures?.errors ?? []).map((error) => ({
    kind: error.level,
    last: error.lastAt,
    text: error.text,
    about: error,
  })),
];

const placeOf = ({ about }: ProblemRow): Jump =>
  isAbout(about)
    ? { pane: about.list, ...(about.row !== null && { key: about.row }) }
    : { pane: 'errors', key: ERRORS_PANE.key(about) };

const TONES = { down: 'bad', degraded: 'warn', error: 'bad', warn: 'warn' } as const;

/** What is wrong now, then the log of all roles, the newest line first. */
export const PROBLEMS_PANE = pane<ProblemRow>({
  id: 'problems',
  hotkey: 'p',
  title: 'Problems',
  short: 'Problems',
  source: 'figures',
  rows: problemsOf,
  key: (row) => (isAbout(row.about) ? row.text.replace(/\d+/g, '') : ERRORS_PANE.key(row.about)),
  empty: () => 'no problems, no warnings, no errors',
  columns: [
    {
      title: 'last',
      width: 8,
      priority: 2,
      text: (row) => (isAbout(row.about) ? 'now' : clock(row.last)),
      value: (row) => Date.parse(row.last),
    },
    { title: 'kind', width: 8, priority: 1, text: (row) => row.kind, tone: (row) => TONES[row.kind] },
    { title: 'about', width: 10, priority: 3, text: (row) => placeOf(row).pane, tone: () => 'dim' },
    { title: 'what', width: 30, maxWidth: 250, priority: 0, text: (row) => row.text },
  ],
  detail: (row) => [
    ['what', row.text],
    ['kind', row.kind],
    ['about', placeOf(row).pane],
  ],
  leadsTo: placeOf,
  entersJump: true,
});
