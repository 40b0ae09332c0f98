/** Sources that are asked while their pane is shown. A failure of one is no fault of the cluster. */
export const PANE_SOURCES = ['database', 'machine', 'events'] as const;
export type PaneSource = (typeof PANE_SOURCES)[number];
