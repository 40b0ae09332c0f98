import { FeedctlError } from '../model/errors.ts';

/** A shorter beginning is more likely a typing error than an id. */
const MIN_LENGTH = 4;
const MAX_NAMED = 5;

/**
 * Returns the worker or gateway with this id, or the only one whose id begins with it. Throws USAGE if
 * several do, WORKER_NOT_FOUND or GATEWAY_NOT_FOUND if none does.
 */
export function byShortId<Row extends { readonly id: string }>(
  rows: readonly Row[],
  text: string,
  kind: 'worker' | 'gateway',
): Row {
  const exact = rows.find(({ id }) => id === text);
  if (exact) return exact;
  const start = text.toLowerCase();
  const found = start.length < MIN_LENGTH ? [] : rows.filter(({ id }) => id.startsWith(start));
  const [row, ...others] = found;
  if (row && others.length === 0) return row;
  if (!row) {
    const why = `there is no ${kind} ${text}`;
    throw kind === 'worker'
      ? new FeedctlError('WORKER_NOT_FOUND', why)
      : new FeedctlError('GATEWAY_NOT_FOUND', why);
  }
  const named = found.slice(0, MAX_NAMED).map(({ id }) => id);
  const more = found.length > MAX_NAMED ? ` and ${found.length - MAX_NAMED} more` : '';
  throw new FeedctlError('USAGE', `${found.length} ${kind}s begin with ${text}: ${named.join(', ')}${more}`, {
    suggestions: [`Pass more characters of the id: see \`feedctl ${kind} list -o name\`.`],
  });
}
