import type { OperationRow } from '../../engine/operations/table.ts';
import { resultText } from '../tables/result.ts';
import { formatBytes, formatCount, formatDuration, oneLine } from '../terminal/format.ts';
import { type Column, numberColumn } from './column.ts';

/** Longest text of a cell of a list. */
const MAX_TEXT = 60;

export const stateOf = ({ state, cancelRequestedAt }: OperationRow): string =>
  state === 'running' && cancelRequestedAt ? 'stopping' : state;

/** Digits of a digest that stand for it. */
const DIGEST_DIGITS = 12;

/** Kind and key of an operation. A key may begin with the kind, or be the digest of a file. */
export function nameOf({ kind, key }: Pick<OperationRow, 'kind' | 'key'>): string {
  if (key === kind || key.startsWith(`${kind} `)) return key;
  return `${kind} ${/^[0-9a-f]{40,}$/.test(key) ? key.slice(0, DIGEST_DIGITS) : key}`.trim();
}

export const workOf = (row: OperationRow): string => row.command ?? nameOf(row);

/** `1,000 of 5,000 rows, 200/s, 20.0 s left` */
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
  if (state === 'cancelled') return `by ${cancelledBy ?? 'an unknown user'}`;
  if (result !== null) return resultText(result);
  return waitsFor === null ? (halfDone ?? '') : `waits for ${waitsFor}`;
}

export const OPERATION_COLUMNS: readonly Column<OperationRow>[] = [
  numberColumn({ title: 'id', width: 6, priority: 1, of: (row) => row.id, format: String }),
  {
    title: 'state',
    width: 11,
    priority: 0,
    text: stateOf,
    tone: ({ state }) =>
      state === 'failed' || state === 'interrupted' ? 'bad' : state === 'running' ? 'ok' : 'dim',
  },
  {
    title: 'work',
    width: 18,
    maxWidth: 60,
    priority: 2,
    text: workOf,
    longText: (row) => oneLine(workOf(row), MAX_TEXT),
  },
  { title: 'who', width: 16, priority: 5, text: (row) => row.who ?? '' },
  {
    title: 'started',
    width: 16,
    priority: 4,
    text: (row) => row.startedAt.toISOString().slice(0, 16).replace('T', ' '),
    longText: (row) => row.startedAt.toISOString().slice(0, 19),
    value: (row) => row.startedAt.getTime(),
  },
  { title: 'progress', width: 16, maxWidth: 50, priority: 3, text: (row) => progressOf(row) ?? '' },
  {
    title: 'outcome',
    width: 20,
    maxWidth: 60,
    priority: 6,
    text: outcomeOf,
    longText: (row) => oneLine(outcomeOf(row), MAX_TEXT),
  },
];
