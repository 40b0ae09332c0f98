import { expect, test } from 'vitest';
import { renderTable } from '../../src/ui/table.ts';

const HEAD = ['name', 'count'];
const ROWS = [
  ['a', 1],
  ['longer', 1_234],
];

test('columns only, for a pipe', () => {
  expect(renderTable(HEAD, ROWS, { borders: false })).toBe(
    ['name    count', 'a           1', 'longer  1,234'].join('\n'),
  );
});

test('borders, for a person', () => {
  const lines = renderTable(HEAD, ROWS, { borders: true }).split('\n');
  expect(lines[0]).toMatch(/^┌─+┬─+┐$/);
  expect(lines.at(-1)).toMatch(/^└─+┴─+┘$/);
  expect(new Set(lines.map((line) => line.length)).size).toBe(1);
  expect(lines.some((line) => /│ longer +│ 1,234 │/.test(line))).toBe(true);
});

test('a table without rows is its head', () => {
  expect(renderTable(HEAD, [], { borders: false })).toBe('name  count');
});
