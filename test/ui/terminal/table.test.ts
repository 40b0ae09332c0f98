import { describe, expect, test } from 'vitest';
import { renderTable } from '../../../src/ui/terminal/table.ts';

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

describe('on a terminal', () => {
  const id = '941e5e23-dfa4-461f-8246-9a604085f3b2';
  const wide = (width: number, options = {}) =>
    renderTable(
      ['worker', 'is paused', 'rows'],
      [
        [id, '', 1_234],
        ['b', 'yes', 0],
      ],
      {
        borders: true,
        width,
        ...options,
      },
    );

  test('borders go where it is narrow', () => {
    expect(wide(65)).toMatch(/^┌/);
    expect(wide(54)).toBe(
      [
        `worker${' '.repeat(32)}is paused   rows`,
        `${id}             1,234`,
        `b${' '.repeat(37)}yes            0`,
      ].join('\n'),
    );
    expect(wide(49)).toBe(
      [
        `worker${' '.repeat(31)}is      rows`,
        `${' '.repeat(37)}paused`,
        `${id}        1,234`,
        `b${' '.repeat(36)}yes        0`,
      ].join('\n'),
    );
  });

  test('then each field has a line, and ids stay whole', () => {
    expect(wide(40)).toBe(
      [`worker     ${id}`, 'rows       1,234', '', 'worker     b', 'is paused  yes', 'rows       0'].join(
        '\n',
      ),
    );
    expect(wide(40, { rowsOnly: true })).toBe(wide(49));
  });

  test('one that does not say its width gets the table', () => {
    expect(wide(0)).toMatch(/^┌/);
  });
});
