import type { PaneSource } from '../../engine/monitoring/top/paneSources.ts';
import type { TopSnapshot } from '../../engine/monitoring/top/snapshot.ts';
import type { WindowName } from '../../engine/stats/windows.ts';
import type { Column } from '../columns/column.ts';
import type { TrendName } from './trends.ts';

export const PANE_IDS = [
  'queues',
  'workers',
  'gateways',
  'shards',
  'users',
  'operations',
  'errors',
  'sources',
  'database',
  'machines',
  'events',
  'problems',
] as const;
export type PaneId = (typeof PANE_IDS)[number];
/** What the screen can show. */
export type ViewId = PaneId | 'overview';

/** Where a row leads to: a pane, and a row in it. */
export interface Jump {
  readonly pane: PaneId;
  readonly key?: string;
}

/** A column that chooses among texts: the longest that fits is shown. */
export interface PaneColumn<Row> extends Column<Row> {
  readonly texts?: (row: Row) => readonly string[];
}

export interface Pane<Row> {
  readonly id: PaneId;
  /** Key that shows the pane. */
  readonly hotkey: string;
  readonly title: string;
  /** Title in the list of panes. */
  readonly short: string;
  /** Name of the source that answers for the rows. */
  readonly source: string;
  /** The source, if it is asked only while the pane is shown. */
  readonly asks?: PaneSource;
  readonly columns: readonly PaneColumn<Row>[];
  /** Title of the column that sorts the rows until the viewer chooses another. Default: order of `rows`. */
  readonly sort?: string;
  /** Charts above the rows. */
  readonly charts?: readonly TrendName[];
  /** Rows of the pane, null if the source has not answered yet. */
  readonly rows: (snapshot: TopSnapshot) => readonly Row[] | null;
  readonly key: (row: Row) => string;
  /** Rows that the overview shows before others if not all fit. */
  readonly matters?: (row: Row) => boolean;
  readonly empty: (snapshot: TopSnapshot) => string;
  /** Everything that is known of a row, as names and values. */
  readonly detail: (row: Row, window: WindowName) => readonly (readonly [string, string])[];
  /** Place in another pane that a row is about. */
  readonly leadsTo?: (row: Row, snapshot: TopSnapshot) => Jump | undefined;
  /** Enter goes to that place: the row has no details. */
  readonly entersJump?: true;
}

/** A pane with rows of any type. */
// biome-ignore lint/suspicious/noExplicitAny: rows of different panes are in one list
export type AnyPane = Pane<any>;

/** Index of the column that sorts the rows until the viewer chooses another; -1: order of the rows. */
export const defaultSort = ({ columns, sort }: AnyPane): number =>
  columns.findIndex(({ title }) => title === sort);

export const pane = <Row>(definition: Pane<Row>): Pane<Row> => definition;

/** A time of day of an ISO time. */
export const clock = (iso: string): string => iso.slice(11, 19);
