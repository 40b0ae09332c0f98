import type { Queryable } from '../database/types.ts';
import { readLineages } from '../identity/identity.ts';
import type { Check } from '../model/check.ts';

/** A new lineage is a warning for this long. */
const RECENT_MS = 24 * 3_600_000;

/** Reports the history of the database: when the present lineage began, and why. */
export async function checkLineage(db: Queryable): Promise<Check[]> {
  const lineages = await readLineages(db);
  const last = lineages.at(-1);
  if (!last) return [];
  const opened = last.openedAt.toISOString().replace(/\.\d+Z$/, 'Z');
  const check = { name: 'lineage', detail: `${last.lineage}, since ${opened}: ${last.reason}` };
  if (last.parent === null || Date.now() - last.openedAt.getTime() > RECENT_MS)
    return [{ ...check, status: 'ok' }];
  return [
    {
      ...check,
      status: 'warning',
      fix: 'Wait until the queues are empty, then run `feedctl feed verify --all --repair`.',
    },
  ];
}
