import type { OperationRow } from '../../engine/operations/table.ts';
import { nameOf, progressOf, stateOf } from '../columns/operations.ts';
import { oneLine } from '../terminal/format.ts';
import { resultText } from './result.ts';

/** Every known field of an operation, one a line. */
export function operationDetails(row: OperationRow): string {
  const lines: [string, string | undefined][] = [
    ['operation', `${row.id}, ${nameOf(row)}`],
    ['state', stateOf(row)],
    ['command', row.command === null ? undefined : `feedctl ${row.command}`],
    ['by', row.who ?? undefined],
    ['started', row.startedAt.toISOString()],
    ['runs', row.runs > 1 ? `${row.runs}, the last since ${row.resumedAt.toISOString()}` : undefined],
    ['ended', row.finishedAt?.toISOString()],
    ['progress', row.state === 'done' ? undefined : progressOf(row)],
    ['waits for', row.waitsFor ?? undefined],
    ['half done', row.halfDone ?? undefined],
    [
      'cancelled',
      row.cancelRequestedAt ? `by ${row.cancelledBy}, ${row.cancelRequestedAt.toISOString()}` : undefined,
    ],
    ['error', row.error ? `${row.error.message} (${row.error.code})` : undefined],
    ['result', row.result === null ? undefined : resultText(row.result) || 'none'],
  ];
  return lines
    .flatMap(([name, value]) => (value === undefined ? [] : [`${name.padEnd(10)}${oneLine(value, 2_000)}`]))
    .join('\n');
}
