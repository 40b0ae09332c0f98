import { stripVTControlCharacters } from 'node:util';
import { describe, expect, test } from 'vitest';
import { shortened } from '../../../src/ui/terminal/shorten.ts';
import { paintStates } from '../../../src/ui/terminal/states.ts';
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
      { borders: true, width, ...options },
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
  });

  test('then ids are short', () => {
    expect(wide(49)).toContain('│ 941e5e23 │           │ 1,234 │');
    expect(wide(30)).toBe(
      ['worker    is paused   rows', '941e5e23             1,234', 'b         yes            0'].join('\n'),
    );
    expect(wide(22)).toBe(
      ['worker   is      rows', '         paused', '941e5e23        1,234', 'b        yes        0'].join(
        '\n',
      ),
    );
  });

  test('then texts are cut, and in the end each field has a line', () => {
    const rows = [['rows.live', 'a reason of many words', 1_234]];
    const at = (width: number, options = {}) =>
      renderTable(['queue', 'reason', 'rows'], rows, { borders: true, width, ...options });
    expect(at(32)).toBe('queue     reason            rows\nrows.live a reason of man… 1,234');
    expect(at(20)).toBe('queue   rows.live\nreason  a reason of many words\nrows    1,234');
    expect(at(20, { rowsOnly: true })).toMatch(/^queue +reason +rows\n/);
  });

  test('nothing is shortened where it is asked for', () => {
    expect(wide(30, { whole: true })).toContain(id);
  });

  test('one that does not say its width gets the table', () => {
    expect(wide(0)).toMatch(/^┌/);
  });

  test('a terminal without Unicode gets ASCII', () => {
    expect(wide(80, { ascii: true })).toMatch(/^[\x20-\x7e\n]+$/);
    expect(wide(80, { ascii: true })).toContain('| 941e5e23-');
  });

  test('states have colours, which take no space', () => {
    const of = (colours: boolean) =>
      renderTable(
        ['component', 'ready'],
        [
          ['broker', 'NO'],
          ['cache', 'yes'],
        ],
        { borders: true, colours },
      );
    expect(of(true)).toContain('\u001b[1;31mNO\u001b[0m');
    expect(of(true)).toContain('\u001b[32myes\u001b[0m');
    expect(stripVTControlCharacters(of(true))).toBe(of(false));
  });
});

test('states are painted inside a text, once', () => {
  const painted = paintStates('FAULT    broker: NOT READY, no FAULTY one');
  expect(painted).toBe('\u001b[1;31mFAULT\u001b[0m    broker: \u001b[1;31mNOT READY\u001b[0m, no FAULTY one');
  expect(paintStates(painted)).toBe(painted);
});

describe('only the table', () => {
  const only = (form: string, columns?: string, options = {}) => {
    let printed = '';
    const print = (text: string) => {
      printed = text;
    };
    const text = renderTable(
      ['', 'queue', 'in flight'],
      [
        ['*', 'rows, "live"', 1_234],
        ['', 'events', 0],
      ],
      { borders: false, ...options, only: { form, columns, print } },
    );
    expect(text).toBe('');
    return printed;
  };

  test('as CSV: quotes where they are needed, numbers without separators', () => {
    expect(only('csv')).toBe(',queue,in flight\r\n*,"rows, ""live""",1234\r\n,events,0\r\n');
    expect(only('csv', undefined, { headers: false })).toMatch(/^\*,/);
  });

  test('as names: the first column with a title', () => {
    expect(only('name')).toBe('rows, "live"\nevents');
  });

  test('columns in the order that was asked for', () => {
    expect(only('table', 'in-flight,Queue', { headers: false })).toBe('1,234  rows, "live"\n    0  events');
    expect(() => only('csv', 'queue,lag')).toThrow('there is no column "lag"');
  });
});

describe('shortened', () => {
  const of = (...texts: string[]) => shortened(texts.map((text) => [text])).map(([text]) => text);

  test('ids of one column stay different', () => {
    const [a, b] = ['941e5e23-dfa4-461f-8246-9a604085f3b2', '941e5e23-dfb4-461f-8246-9a604085f3b2'];
    expect(of(a!)).toEqual(['941e5e23']);
    expect(of(a!, b!)).toEqual(['941e5e23-dfa', '941e5e23-dfb']);
  });

  test('URLs and times', () => {
    expect(of('postgres://feedctl@/feeds?host=%2Fhome%2Fada%2Fd2%2Frun', 'http://10.0.0.7:8080/')).toEqual([
      '…/d2/run',
      '10.0.0.7:8080',
    ]);
    expect(of('amqp://a@mq1,amqp://a@mq2', '2026-07-01T12:00:00.123Z', 'a text')).toEqual([
      'mq1,mq2',
      '2026-07-01 12:00:00',
      'a text',
    ]);
  });
});
