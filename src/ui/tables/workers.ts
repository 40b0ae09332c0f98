import { renderList } from '../columns/column.ts';
import { WORKER_COLUMNS, type WorkerRow } from '../columns/workers.ts';
import type { TableOptions } from '../terminal/table.ts';

export const workersTable = (workers: readonly WorkerRow[], options: TableOptions): string =>
  renderList(WORKER_COLUMNS, workers, options);
