import type { OperationRow } from '../../engine/operations/table.ts';
import { formatBytes, formatCount, formatDuration, oneLine } from '../terminal/format.ts';
import { renderTable } from '../terminal/table.ts';

/** One operation a row. */
export function operationsTable(rows: readonly OperationRow[], options: { borders: boolean }): string {
  return renderTable(
    ['id', 'state', 'work', 'who', 'started', 'progress', 'outcome'],
    rows.map((row) => [
      String(row.id),
      stateOf(row),
      oneLine(row.command ?? `${row.kind} ${row.key}`, 60),
      row.who ?? '',
      row.startedAt.toISOString().slice(0, 19),
      progressOf(row) ?? '',
      oneLine(outcomeOf(row), 60),
    ]),
    options,
  );
}

export const stateOf = ({ state, cancelRequestedAt }: OperationRow): string =>
  state === 'running' && cancelRequestedAt ? 'stopping' : state;

export function progressOf({ progress }: OperationRow): string | undefined {
  if (!progress) return undefined;
  const { done, total, unit, rate, etaSeconds } = progress;
  const amount = unit === 'bytes' ? formatBytes : formatCount;
  const parts = [`${amount(done)}${total === null ? '' : ` of ${amount(total)}`}`];
  if (unit !== 'bytes') parts[0] += ` ${unit}`;
  if (rate) parts.push(`${amount(rate)}/s`);
  if (etaSeconds !== null) parts.push(`${formatDuration(etaSeconds)} left`);
  return parts.join(', ');
}

export function outcomeOf({ state, error, result, cancelledBy, halfDone, waitsFor }: OperationRow): string {
  if (error) return `${error.code}: ${error.message}`;
  if (state === 'cancelled') return `by ${cancelledBy ?? 'somebody'}`;
  if (result !== null) return JSON.stringify(result);
  return waitsFor === null ? (halfDone ?? '') : `waits for ${waitsFor}`;
}

/** All that is known of one. */
export function operationDetails(row: OperationRow): string {
  const lines: [string, string | undefined][] = [
    ['operation', `${row.id}, ${row.kind} ${row.key}`],
    ['state', stateOf(row)],
    ['command', row.command === null ? undefined : `feedctl ${row.command}`],
    ['by', row.who ?? undefined],
    ['started', row.startedAt.toISOString()],
    ['runs', row.runs > 1 ? `${row.runs}, the last since ${row.resumedAt.toISOString()}` : undefined],
    ['ended', row.finishedAt?.toISOString()],
    ['progress', progressOf(row)],
    ['waits for', row.waitsFor ?? undefined],
    ['half done', row.halfDone ?? undefined],
    [
      'cancelled',
      row.cancelRequestedAt ? `by ${row.cancelledBy}, ${row.cancelRequestedAt.toISOString()}` : undefined,
    ],
    ['error', row.error ? `${row.error.message} (${row.error.code})` : undefined],
    ['result', row.result === null ? undefined : JSON.stringify(row.result)],
  ];
  return lines
    .flatMap(([name, value]) => (value === undefined ? [] : [`${name.padEnd(10)}${oneLine(value, 2_000)}`]))
    .join('\n');
}
