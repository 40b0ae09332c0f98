import { PassThrough } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { TopSnapshot } from '../../../src/engine/monitoring/top/snapshot.ts';
import type { OperationRow } from '../../../src/engine/operations/table.ts';
import { Alarm } from '../../../src/ui/top/alarm.ts';
import { barRows, spread, timeAxis } from '../../../src/ui/top/chart.ts';
import { exportPane } from '../../../src/ui/top/exportPane.ts';
import { frame } from '../../../src/ui/top/frame.ts';
import { KEYS } from '../../../src/ui/top/keys.ts';
import { keyOfMouse, listenToMouse, separate } from '../../../src/ui/top/mouse.ts';
import { PANES } from '../../../src/ui/top/panes.ts';
import { paint, THEME_NAMES } from '../../../src/ui/top/styledText.ts';
import { layTabs } from '../../../src/ui/top/tabs.ts';
import { Trends } from '../../../src/ui/top/trends.ts';
import { initialState } from '../../../src/ui/top/viewState.ts';
import {
  BUSY,
  BUSY_KNOWN,
  EMPTY,
  FULL,
  NO_DATABASE,
  NOON,
  screenOf,
  taken,
  textOf,
  typed,
  word,
} from './snapshots.ts';

test('a chart is as wide as the screen and has a scale and a time axis', () => {
  expect(spread([1, null, 3], 6)).toEqual([1, 1, null, null, 3, 3]);
  expect(spread([1, 5, 2, 0], 2)).toEqual([5, 2]);
  expect(spread([], 2)).toEqual([null, null]);
  expect(barRows([null, 0, 1, 8, 16], 2, 16)).toEqual(['    █', ' ▁▁██']);
  expect(barRows([0, 0], 1, 0)).toEqual(['▁▁']);
  expect(timeAxis(300, 40)).toBe('-5m ────────────────-2m30s ───────── now');
  expect(timeAxis(3_600, 8)).toHaveLength(8);
  const rows = (width: number, height: number) =>
    textOf(BUSY, initialState(1), screenOf(width, height)).split('\n');
  for (const [width, height] of [
    [60, 20],
    [80, 24],
    [200, 60],
  ] as const) {
    const axis = rows(width, height).findIndex((row) => /^ +-5m ─+.*now/.test(row));
    expect(axis, `${width}x${height}`).toBeGreaterThan(0);
    expect(rows(width, height)[axis]!.trimEnd().length).toBeGreaterThan(width - 16);
  }
  expect(rows(80, 24).join('\n')).toMatch(/deliveries ▁+█▁+ 0\.\.576K\/s/);
  expect(rows(200, 60).find((row) => row.startsWith('deliveries'))).toMatch(/█+ +576K\/s/);
  // A longer window has a longer chart.
  expect(textOf(BUSY, typed(BUSY, ['w', 'w']).state, screenOf(80, 24))).toMatch(/-1h ─+ now/);
});

test('trends grow from snapshot to snapshot, and begin with what processes report', () => {
  const trends = new Trends();
  trends.record(BUSY);
  expect(trends.until(BUSY, 'backlog', 4)).toEqual([1, 5, 9, 12_348]);
  const later = taken(BUSY_KNOWN, { at: new Date(NOON + 10_000), backlogSeries: [] });
  trends.record(later);
  expect(trends.until(later, 'backlog', 4)).toEqual([9, 12_348, null, 12_348]);
  const known = trends.until(BUSY, 'deliveries', 61);
  expect([known[0], known.at(-1)]).toEqual([null, 0]);
  expect(Math.max(...known.map((value) => value ?? 0))).toBe(576_000);
  expect(Trends.of(EMPTY).until(EMPTY, 'cpu', 2)).toEqual([null, null]);
});

test.for([60, 80, 100, 120, 200])('at %i cells the names of panes do not vanish', (width) => {
  for (const shown of ['overview', ...PANES.map(({ id }) => id)] as const) {
    const { tabs, before, after } = layTabs(FULL, shown, width);
    const at = tabs.findIndex(({ id }) => id === shown);
    for (const { id, text } of tabs) expect(text, `${shown} ${id}`).toMatch(/ [0-9mep] [A-Z][\w]+/);
    expect(tabs.at(-1)!.to).toBeLessThanOrEqual(width);
    expect(at, shown).toBeGreaterThanOrEqual(0);
    if (width >= 80) expect([tabs.length, before, after]).toEqual([PANES.length + 1, false, false]);
    if (before) expect(at, `${shown} has a neighbour`).toBeGreaterThan(0);
    if (after) expect(at, `${shown} has a neighbour`).toBeLessThan(tabs.length - 1);
  }
});

test('the palette finds panes and actions, and completes them', () => {
  const at = (...keys: string[]) => typed(FULL, [':', ...keys]);
  expect(textOf(FULL, at(...word('ma')).state, screenOf(80, 24))).toMatch(/› machines +m\n/);
  expect(at(...word('ma'), 'return').state.pane).toBe('machines');
  expect(at(...word('dat'), 'tab').state.overlay).toMatchObject({ typed: 'database' });
  expect(at(...word('export the'), 'tab').state.overlay).toMatchObject({ typed: 'export the rows as ' });
  expect(at(...word('zz'), 'return').state.overlay.kind).toBe('palette');
  expect(at(...word('quit'), 'return').effects).toEqual([{ kind: 'quit' }]);
  expect(at(...word('drain'), 'return').state.overlay.kind).toBe('palette');
  const admin = { production: undefined, scale: false };
  expect(typed(FULL, ['2', 'down', ':', ...word('drain'), 'return'], admin).state.overlay.kind).toBe(
    'confirm',
  );
  expect(at('down', 'down', 'up', 'return').state.overlay).toEqual({ kind: 'none' });
});

test('a row leads to the pane and the row that it is about', () => {
  const enter = (text: string) => {
    const at = FULL.health.causes.findIndex((cause) => cause.text.includes(text));
    return typed(FULL, ['p', ...Array.from({ length: at }, () => 'down'), 'return']).state;
  };
  expect([enter('not ready').pane, enter('not ready').panes.workers.selected]).toEqual(['workers', 'w2']);
  expect([enter('wait').pane, enter('wait').panes.queues.selected]).toEqual(['queues', 'rows.live']);
  const toQueue = typed(FULL, ['2', 'o']).state;
  expect([toQueue.pane, toQueue.panes.queues.selected]).toEqual(['queues', 'rows.live']);
  expect(typed(FULL, ['e', 'o']).state.panes.users.selected).toBe('88');
  expect(typed(FULL, ['m', 'o']).state.message?.text).toContain('leads to no other pane');
  expect(typed(FULL, ['o']).state.message?.text).toContain('choose a pane');
  // A pane with a source that only it needs is asked at once.
  expect(typed(FULL, ['9']).effects).toEqual([{ kind: 'refresh' }]);
  expect(typed(FULL, ['1']).effects).toEqual([]);
  for (const { text, about } of NO_DATABASE.health.causes)
    expect(
      PANES.some(({ id }) => id === about.list),
      text,
    ).toBe(true);
});

test('keys go back in time by views and by minutes, and return to the present', () => {
  const times = [0, 5, 10, 60, 65].map((seconds) => NOON + seconds * 1_000);
  const at = (...keys: string[]) => typed(FULL, keys, undefined, undefined, { times }).state.at;
  expect(at('[')).toBe(times[4]);
  expect(at('[', '[')).toBe(times[3]);
  expect(at('[', '{')).toBe(times[1]);
  expect(at('{', '{')).toBe(times[0]);
  expect(at('[', '[', ']')).toBe(times[4]);
  expect(at('[', ']')).toBeNull();
  expect(at('[', '[', 'escape')).toBeNull();
  expect(typed(FULL, ['[']).state.message?.text).toContain('no earlier view yet');
  // A recording has no present, and cannot be changed.
  const replay = { times, replay: true };
  const start = { ...initialState(1), at: times[3]! };
  const admin = { production: undefined, scale: true };
  expect(typed(FULL, [']', ']', ']'], undefined, start, replay).state.at).toBe(times[4]);
  expect(typed(FULL, ['S'], admin, start, replay).state.message?.text).toContain('cannot be changed');
  const past = { ...initialState(1), at: times[0]! };
  expect(typed(FULL, ['S'], admin, past, { times }).state.message?.text).toContain('an earlier view');
});

test('columns can be hidden, but not all, and exports leave them out', () => {
  const hide = typed(FULL, ['1', 'c', 'down', 'space', 'escape']).state;
  expect(hide.panes.queues.hidden).toEqual(['ready']);
  expect(textOf(FULL, hide, screenOf(120, 24))).not.toMatch(/queue +ready/);
  expect(textOf(FULL, typed(FULL, ['c'], undefined, hide).state, screenOf(80, 24))).toContain('[ ] ready');
  const columns = PANES.find(({ id }) => id === 'queues')!.columns.length;
  const others = Array.from({ length: columns - 1 }, () => ['down', 'space']).flat();
  const all = typed(FULL, ['1', 'c', 'space', ...others]).state;
  expect(all.panes.queues.hidden).toHaveLength(columns - 1);
  expect(all.message?.text).toBe('one column has to stay');
  expect(typed(FULL, ['1', 'x']).effects).toEqual([{ kind: 'export', format: 'csv' }]);
  const csv = exportPane(FULL, hide, 'csv')!;
  expect(csv.name).toBe('feedctl-local-queues-20260101T120000.csv');
  expect(csv.text.split('\r\n')[0]).toMatch(/^queue,in flight,in\/s/);
  expect(csv.rows).toBe(2);
  const json = exportPane(FULL, typed(FULL, ['1', '/', ...word('live'), 'return']).state, 'json')!;
  expect(JSON.parse(json.text)).toMatchObject([{ queue: 'rows.live', ready: 12_345 }]);
  const risky = taken({ ...BUSY_KNOWN, queues: [{ ...BUSY_KNOWN.queues![0]!, queue: '=cmd("x"),1' }] });
  expect(exportPane(risky, hide, 'csv')!.text).toContain(`"'=cmd(""x""),1"`);
  expect(exportPane(FULL, initialState(1), 'csv')).toBeUndefined();
});

test('the mouse chooses tabs and rows, and its reports are found across pieces', () => {
  expect(separate('x\u001b[<0;3')).toEqual({ reports: [], keys: 'x', begun: '\u001b[<0;3' });
  expect(separate('\u001b[<0;3;7M\u001b[<0;3;7m\u001b[A\u001b[<64;1;1My')).toEqual({
    reports: [
      { button: 0, x: 2, y: 6 },
      { button: 64, x: 0, y: 0 },
    ],
    keys: '\u001b[Ay',
    begun: '',
  });
  const screen = screenOf(80, 24);
  const state = typed(FULL, ['1']).state;
  const rows = textOf(FULL, state, screen).split('\n');
  const key = (row: number, x: number, button = 0) => keyOfMouse({ button, x, y: row }, FULL, state, screen);
  const tabs = rows.findIndex((row) => row.includes('3 Gat'));
  expect(key(tabs, rows[tabs]!.indexOf('3 Gat'))).toBe('tab:gateways');
  const second = rows.findIndex((row) => row.includes('rows.live'));
  expect(key(second, 10)).toBe('row:1');
  expect(key(second + 5, 10)).toBeUndefined();
  expect([key(0, 0, 64), key(0, 0, 65), key(second, 10, 2)]).toEqual(['wheel-up', 'wheel-down', undefined]);
  const clicked = typed(FULL, ['1', 'row:1']).state;
  expect(clicked.panes.queues.selected).toBe('rows.live');
  expect(typed(FULL, ['row:1'], undefined, clicked).state.overlay.kind).toBe('detail');
  expect(typed(FULL, ['?', 'tab:events']).state).toMatchObject({ pane: 'events', overlay: { kind: 'none' } });
  // A click answers no question.
  const admin = { production: undefined, scale: false };
  expect(typed(FULL, ['1', 'P', 'row:0'], admin).state.overlay.kind).toBe('confirm');
});

// biome-ignore lint/suspicious/noControlCharactersInRegex: colours
const COLOURS = /\u001b\[[\d;]*m/g;

test('themes differ in colours alone', () => {
  const lines = (theme: (typeof THEME_NAMES)[number] | false) =>
    frame(FULL, typed(FULL, ['9']).state, screenOf(80, 24)).map((line) => paint(line, theme));
  const plain = lines(false);
  for (const theme of THEME_NAMES)
    expect(lines(theme).map((line) => line.replace(COLOURS, '').trimEnd())).toEqual(plain);
  expect(lines('mono').join('').match(COLOURS)!.join()).not.toMatch(/\[(\d+;)*3\d/);
  expect(lines('light')).not.toEqual(lines('dark'));
});

test('the bell rings for a new problem, and not for a number that changes', () => {
  const alarm = new Alarm();
  const health = (state: TopSnapshot['health']['state'], ...problems: string[]) => ({
    ...{ state, problems, causes: [] },
  });
  const rings = (...args: Parameters<typeof health>) => alarm.rings(health(...args));
  expect(rings('degraded', '5 dead letters')).toBe(false);
  expect(rings('degraded', '6 dead letters')).toBe(false);
  expect(rings('down', '6 dead letters', 'no worker runs')).toBe(true);
  expect(rings('ok')).toBe(false);
  expect(rings('degraded', '1 dead letter')).toBe(true);
});

test('the database pane begins with locks, and texts of sessions control no terminal', () => {
  const text = textOf(FULL, typed(FULL, ['9']).state, screenOf(120, 40));
  expect(text).toMatch(/› LOCK +12.0 s +waits for 99: update users/);
  expect(text).toMatch(/sessions +13 of 100 +3 active, 9 idle, 1 idle in transaction/);
  expect(text).toMatch(/WAL +6.2 MiB\/s +131 B for each feed row/);
  expect(text).toMatch(/partition +1.0 GiB +feed_items_20261130t06, 12.3M rows/);
  expect(text).not.toContain('\u001b');
  expect(textOf(FULL, typed(FULL, ['9', 'return']).state, screenOf(80, 24))).toContain(
    'select pg_terminate_backend(99)',
  );
  expect(textOf(FULL, typed(FULL, ['m']).state, screenOf(120, 40))).toMatch(
    /› ops-1 +this machine +42% +2.0 GiB +5.10 2.25 1.00/,
  );
});

test('progress of an operation is never cut within a figure', () => {
  const row = {
    state: 'running' as const,
    ...{ id: 4, kind: 'seed', key: 'x', who: 'root@vm', command: 'seed generate', runs: 1 },
    ...{ startedAt: new Date(NOON), resumedAt: new Date(NOON), finishedAt: null, result: null, error: null },
    ...{ halfDone: null, waitsFor: null, cancelRequestedAt: null, cancelledBy: null },
    progress: { done: 20_000, total: 20_003_000, unit: 'rows', rate: 18_741, etaSeconds: 582 },
  } satisfies OperationRow;
  const operations = [row];
  const shown = (width: number) =>
    textOf(taken({ ...BUSY_KNOWN, operations }), typed(BUSY, ['6']).state, screenOf(width, 24));
  for (const width of [60, 70, 80, 100, 200]) expect(shown(width)).not.toContain('…');
  expect(shown(200)).toContain('20,000 of 20,003,000 rows, 18,741/s, 9 m 42 s left');
  expect(shown(60)).toContain('20K of 20M, 18.7K/s, 9 m 42 s left');
});

test('keys are not given twice', () => {
  const all = KEYS.flatMap(({ keys }) => keys);
  expect(new Set(all).size).toBe(all.length);
});

test('a report that comes in pieces is no key, and Escape is one', async () => {
  const terminal = new PassThrough({ encoding: 'utf8' });
  const reports: unknown[] = [];
  const stop = listenToMouse(terminal as unknown as NodeJS.ReadStream, (report) => reports.push(report));
  let keys = '';
  terminal.on('readable', () => {
    for (let piece = terminal.read(); piece !== null; piece = terminal.read()) keys += piece;
  });
  for (const piece of ['\u001b', '[<0;3', ';7', 'Mq']) {
    terminal.write(piece);
    await nextTurn();
  }
  await expect.poll(() => keys).toBe('q');
  expect(reports).toEqual([{ button: 0, x: 2, y: 6 }]);
  terminal.write('\u001b');
  await expect.poll(() => keys).toBe('q\u001b');
  stop();
});
