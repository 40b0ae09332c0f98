import { type AnyPane, PANE_IDS, type PaneId, type ViewId } from './pane.ts';
import { DATABASE_PANE } from './panes/database.ts';
import { ERRORS_PANE } from './panes/errors.ts';
import { EVENTS_PANE } from './panes/events.ts';
import { MACHINES_PANE } from './panes/machines.ts';
import { OPERATIONS_PANE } from './panes/operations.ts';
import { PROBLEMS_PANE } from './panes/problems.ts';
import { QUEUES_PANE } from './panes/queues.ts';
import { GATEWAYS_PANE, WORKERS_PANE } from './panes/roles.ts';
import { SHARDS_PANE } from './panes/shards.ts';
import { SOURCES_PANE } from './panes/sources.ts';
import { USERS_PANE } from './panes/users.ts';

const BY_ID: { readonly [id in PaneId]: AnyPane } = {
  queues: QUEUES_PANE,
  workers: WORKERS_PANE,
  gateways: GATEWAYS_PANE,
  shards: SHARDS_PANE,
  users: USERS_PANE,
  operations: OPERATIONS_PANE,
  errors: ERRORS_PANE,
  sources: SOURCES_PANE,
  database: DATABASE_PANE,
  machines: MACHINES_PANE,
  events: EVENTS_PANE,
  problems: PROBLEMS_PANE,
};

export const paneOf = (id: PaneId): AnyPane => BY_ID[id];

/** All panes, in the order of the tabs. */
export const PANES: readonly AnyPane[] = PANE_IDS.map(paneOf);

/** The view of that name, or undefined. */
export const viewOf = (name: string | undefined): ViewId | undefined =>
  name === 'overview' ? name : PANE_IDS.find((id) => id === name);
