import { expect, test } from 'vitest';
import type { TopSnapshot } from '../../../src/engine/monitoring/top/snapshot.ts';
import { aggregate } from '../../../src/engine/stats/totals.ts';
import { cellsOf, cut, pad } from '../../../src/ui/terminal/cells.ts';
import { formatDuration } from '../../../src/ui/terminal/format.ts';
import { frame } from '../../../src/ui/top/frame.ts';
import { KEYS } from '../../../src/ui/top/keys.ts';
import { topText } from '../../../src/ui/top/printSnapshot.ts';
import { widthOf } from '../../../src/ui/top/styledText.ts';
import { initialState } from '../../../src/ui/top/viewState.ts';
import {
  BUSY,
  BUSY_KNOWN,
  EMPTY,
  FULL,
  MANY,
  NO_BROKER,
  NO_DATABASE,
  NOTHING_KNOWN,
  queue,
  screenOf,
  storage,
  taken,
  textOf,
  typed,
  word,
} from './snapshots.ts';

const SIZES = [
  [80, 24],
  [200, 60],
  [60, 20],
] as const;
const SNAPSHOTS = { EMPTY, BUSY, FULL, NO_BROKER, NO_DATABASE, NOTHING_KNOWN, MANY };

test.for(SIZES)('at %ix%i every frame fits, whatever there is and whatever is open', ([width, height]) => {
  const ways = [
    [],
    ['?'],
    ...'123456789mep'.split('').flatMap((pane) => [[pane], [pane, 'return'], [pane, '/', 'x']]),
  ];
  for (const [name, snapshot] of Object.entries(SNAPSHOTS)) {
    for (const keys of ways) {
      const { state } = typed(snapshot, keys);
      const lines = frame(snapshot, state, screenOf(width, height));
      expect(lines, `${name} ${keys}`).toHaveLength(height);
      for (const line of lines) expect(widthOf(line), `${name} ${keys}`).toBeLessThanOrEqual(width);
    }
  }
});

test.for([
  [1, 1],
  [20, 5],
  [37, 9],
])('a screen of %ix%i is no reason to fall over', ([width, height]) => {
  const lines = frame(BUSY, initialState(1), screenOf(width!, height!));
  expect(lines).toHaveLength(height!);
  for (const line of lines) expect(widthOf(line)).toBeLessThanOrEqual(width!);
});

test.for(SIZES)('at %ix%i what matters is on the screen', ([width, height]) => {
  const screen = screenOf(width, height);
  const shown = (snapshot: TopSnapshot) => textOf(snapshot, initialState(1), screen);
  expect(shown(EMPTY)).toMatch(/▼ DOWN[\s\S]*deliveries 0\/s[\s\S]*backlog 0[\s\S]*no worker runs/);
  const busy = shown(BUSY);
  expect(busy).toContain('deliveries 48,000/s');
  expect(busy).toContain('online 3,204');
  expect(busy).toContain('backlog 12,348, empty in 42.0 s');
  expect(busy).toMatch(/p99 1[34] ms/);
  expect(busy).toContain('1 of 2 workers not ready');
  const noBroker = shown(NO_BROKER);
  expect(noBroker).toContain('BROKER_UNREACHABLE (queues): cannot reach the b');
  // What is older than it should be says so where it is shown, and nothing else does.
  expect(noBroker).toMatch(/backlog 12,348 \(12 s ago\)/);
  expect(noBroker).toMatch(/QUEUES 12 s ago/);
  expect(noBroker).not.toMatch(/(WORKERS|GATEWAYS).* ago|as of/);
  expect(shown(NO_DATABASE)).toMatch(/QUEUES 12 s ago[\s\S]*WORKERS (12 s ago|old)/);
  expect(shown(NO_DATABASE)).toMatch(/DOWN[\s\S]*as of 12 s ago[\s\S]*DATABASE_UNREACHABLE/);
  expect(shown(NO_DATABASE)).toContain('deliveries 48,000/s');
  expect(shown(NOTHING_KNOWN)).toMatch(/deliveries -[\s\S]*not known yet/);
});

test('10,000 rows: those that fit are drawn, those in trouble first, any can be reached', () => {
  const screen = screenOf(80, 24);
  const at = (...keys: string[]) => textOf(MANY, typed(MANY, keys).state, screen).split('\n');
  expect(at('2').find((row) => row.startsWith('›'))).toContain('NOT READY');
  expect(at('2', 'G').find((row) => row.startsWith('›'))).toContain('worker-9999');
  const filtered = at('2', '/', ...word('worker-4321'), 'return');
  expect(filtered.filter((row) => /^[› ] worker-/.test(row))).toHaveLength(1);
  // By process id, the greatest first, and the other way round.
  expect(at('2', 's', 's').find((row) => row.startsWith('›'))).toContain('worker-9999 ');
  const byPid = typed(MANY, ['2', 's', 's', 's']).state;
  expect(byPid.message?.text).toBe('sorted by state');
  expect(at('2', 's', 's', 'r').find((row) => row.startsWith('›'))).toContain('worker-0 ');
});

test('the mark stays on its row when the order changes, and where it was when the row goes', () => {
  const { state } = typed(MANY, ['2', 'down', 'down', 'down']);
  const selected = state.panes.workers.selected;
  const less = taken({
    ...BUSY_KNOWN,
    workers: MANY.workers!.filter((row) => row.id === selected || row.id.endsWith('5')),
  });
  expect(textOf(less, state, screenOf(80, 24))).toMatch(new RegExp(`› worker-${selected!.slice(1)}\\b`));
  const without = taken({ ...BUSY_KNOWN, workers: MANY.workers!.slice(0, 2) });
  expect(textOf(without, state, screenOf(80, 24))).toMatch(/› worker-1\b/);
});

test('windows, sliding and tumbling, pause and interval are keys; help lists every key', () => {
  expect(typed(BUSY, ['w']).state.window).toBe('5m');
  expect(textOf(BUSY, typed(BUSY, ['w', 'w', 't']).state, screenOf(200, 24))).toContain('last whole 1h');
  expect(typed(BUSY, ['space']).state.paused).toBe(true);
  expect(textOf(BUSY, typed(BUSY, ['space']).state, screenOf(80, 24))).toContain('PAUSED');
  expect(typed(BUSY, ['+', '+']).state.intervalSeconds).toBe(5);
  expect(typed(BUSY, ['-', '-', '-']).state.intervalSeconds).toBe(0.5);
  expect(typed(BUSY, ['tab', 'tab', 'shift-tab']).state.pane).toBe('queues');
  expect(typed(BUSY, ['q']).effects).toEqual([{ kind: 'quit' }]);
  expect(typed(BUSY, ['/', 'ctrl-c']).effects).toEqual([{ kind: 'quit' }]);
  const help = textOf(BUSY, typed(BUSY, ['?']).state, screenOf(120, 60));
  for (const { keys, help: text, admin } of KEYS)
    if (!admin) expect(help).toContain(`${keys.join(' ').padEnd(18)}${text.slice(0, 30)}`);
  expect(typed(BUSY, ['?', 'escape']).state.overlay.kind).toBe('none');
});

test('without --admin nothing can be changed; with it nothing is without being asked', () => {
  const admin = { production: undefined, scale: false };
  expect(typed(BUSY, ['2', 'D', 'y']).effects).toEqual([]);
  expect(typed(BUSY, ['2', 'D']).state.message?.text).toContain('--admin');
  expect(typed(BUSY, ['2', 'down', 'D', 'n'], admin).effects).toEqual([]);
  expect(typed(BUSY, ['2', 'down', 'D', 'return'], admin).state.message?.text).toContain(
    'nothing was changed',
  );
  const drained = typed(BUSY, ['2', 'down', 'D', 'y'], admin);
  expect(drained.effects).toEqual([{ kind: 'act', action: { kind: 'drain-worker', id: 'w1' } }]);
  expect(drained.state.busy).toContain('Drain the worker on worker-1');
  // One thing at a time.
  expect(typed(BUSY, ['1', 'P', 'y'], admin, drained.state).effects).toEqual([]);
  expect(typed(BUSY, ['2', 'D'], admin).state.message?.text).toContain('does not run any more');
  // Without its broker it is not ready, and ends as it is asked to.
  const without = { ...BUSY, workers: BUSY.workers!.map((row) => ({ ...row, there: true, ready: false })) };
  expect(typed(without, ['2', 'D', 'y'], admin).effects).toMatchObject([
    { action: { kind: 'drain-worker' } },
  ]);
  expect(typed(BUSY, ['1', 'P', 'y'], admin).effects).toEqual([
    { kind: 'act', action: { kind: 'pause', lane: 'live' } },
  ]);
  expect(typed(BUSY, ['M', '9', '9', 'return', 'y'], admin).effects).toEqual([
    { kind: 'act', action: { kind: 'mark', userId: 99 } },
  ]);
  // The selected user is proposed.
  expect(typed(BUSY, ['5', 'down', 'M', 'return', 'y'], admin).effects).toEqual([
    { kind: 'act', action: { kind: 'unmark', userId: 88 } },
  ]);
  expect(typed(BUSY, ['B', 'x', 'return', 'y'], admin).effects).toEqual([]);
  expect(typed(BUSY, ['S'], admin).state.message?.text).toContain('Kubernetes');
  expect(typed(BUSY, ['S', '7', 'return', 'y'], { ...admin, scale: true }).effects).toEqual([
    { kind: 'act', action: { kind: 'scale', replicas: 7 } },
  ]);
});

test('of a production cluster the name has to be typed', () => {
  const admin = { production: 'eu', scale: false };
  expect(typed(BUSY, ['3', 'D', 'y'], admin).effects).toEqual([]);
  expect(typed(BUSY, ['3', 'D', 'y', 'return'], admin).effects).toEqual([]);
  expect(typed(BUSY, ['3', 'D', 'e', 'u', 'escape'], admin).effects).toEqual([]);
  expect(typed(BUSY, ['3', 'D', 'e', 'u', 'return'], admin).effects).toMatchObject([{ kind: 'act' }]);
  const asked = textOf(BUSY, typed(BUSY, ['3', 'D', 'e'], admin).state, screenOf(60, 20, admin));
  expect(asked).toContain('type eu and enter to confirm: e█');
  expect(asked).toContain('NO OTHER IS READY.');
});

const ONLY_TEXT =
  'without colours there is nothing but text, and no text of others reaches the terminal as commands';
test(ONLY_TEXT, () => {
  const text = topText(BUSY, { width: 120, theme: false });
  // biome-ignore lint/suspicious/noControlCharactersInRegex: those must not be there
  expect(text).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f]/);
  expect(text).toContain('えらい事になった');
  const colours = topText(BUSY, { width: 120, theme: 'dark' });
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colours
  expect(colours.replace(/\u001b\[[\d;]*m/g, '').replace(/ +$/gm, '')).toBe(text);
  expect(colours).not.toBe(text);
});

test('wide characters are cut between cells, and never in two', () => {
  expect(cellsOf('日本語')).toBe(6);
  expect(cellsOf('👩‍👩‍👧')).toBe(2);
  expect(cellsOf('e\u0301')).toBe(1);
  expect(cut('日本語', 4)).toBe('日…');
  expect(cut('日本語', 5)).toBe('日本…');
  expect(cut('日本語', 6)).toBe('日本語');
  expect(cut('plain text', 6)).toBe('plain…');
  expect(pad('日本語', 5, 'right')).toBe('日本…');
  expect(pad('日', 4)).toBe('日  ');
});

test('what a snapshot has no answer for is null, and never nothing', () => {
  const { figures, queues, workers, health } = NOTHING_KNOWN;
  expect({ figures, queues, workers }).toEqual({ figures: null, queues: null, workers: null });
  expect(health).toMatchObject({
    state: 'down',
    problems: ['DATABASE_UNREACHABLE (all sources): cannot reach the database postgres://db'],
  });
  expect(BUSY.figures).toEqual(aggregate(BUSY_KNOWN.figures!));
});

test.for([80, 60])(
  'as text at %i cells the columns of each table line up, and no row is for keys',
  (width) => {
    const lines = topText(BUSY, { width, theme: false }).split('\n');
    expect(lines.join('\n')).not.toMatch(/Overview|every 1 s|\t/);
    for (const line of lines) expect(cellsOf(line)).toBeLessThanOrEqual(width);
    const at = lines.findIndex((line) => line.startsWith('  QUEUES 2'));
    const [head, events, rows] = lines.slice(at, at + 3) as [string, string, string];
    for (const [title, first, second] of [
      ['ready', '3', '12,345'],
      ['out/s', '20', '20'],
      ['dead letters', '0', '0'],
    ] as const) {
      const end = head.indexOf(title) + title.length;
      expect(events.slice(0, end)).toMatch(new RegExp(` ${first}$`));
      expect(rows.slice(0, end)).toMatch(new RegExp(` ${second}$`));
    }
  },
);

test('a queue whose messages come and go keeps up; one with more than two seconds of work does not', () => {
  const row = (ready: number, outPerSecond: number, paused = false) => ({
    ...queue('rows.live', ready, null),
    ...{ outPerSecond, paused },
  });
  const shown = (...queues: ReturnType<typeof row>[]) =>
    textOf(taken({ ...BUSY_KNOWN, queues }), initialState(1), screenOf(80, 24));
  expect(shown(row(40, 20))).toMatch(/backlog 40, keeps up[\s\S]*rows.live.* keeps up/);
  expect(shown(row(41, 20))).toMatch(/backlog 41, not getting shorter[\s\S]*rows.live.* GROWS/);
  expect(shown(row(40, 20, true))).toMatch(/backlog 40, not getting shorter[\s\S]*rows.live.* PAUSED/);
});

test('a number is never cut, and what has messages or dead letters is shown before what has none', () => {
  const busy = { ...queue('cleanup', 1_234_567_890), deadLetters: 123_456 };
  const queues = ['a', 'b', 'c', 'd', 'e', 'f'].map((name) => queue(name, 0));
  const text = textOf(taken({ ...BUSY_KNOWN, queues: [...queues, busy] }), initialState(1), screenOf(60, 20));
  expect(text).toMatch(/cleanup +1.23B .* 123,456/);
  expect(formatDuration(3_599)).toBe('59 m 59 s');
  expect(formatDuration(3_600)).toBe('1 h 00 m');
  expect(formatDuration(26 * 3_600)).toBe('1 d 02 h');
});

test('feed rows and the disk that is full first are one row; within a week the disk is a problem', () => {
  const rows = (full: number | null, ageMs?: number, size = screenOf(160, 24)) =>
    textOf(taken({ ...BUSY_KNOWN, storage: storage(full, ageMs) }), initialState(1), size);
  expect(rows(30 * 86_400).replaceAll(/ {2,}/g, '; ')).toContain(
    'feed rows 1,234,567; size 150 MiB; partitions 14; begun 5 h 00 m ago; WAL 131 B/row; ' +
      'disk 12 GiB free, full in 30.0 days\n',
  );
  expect(rows(30 * 86_400, 600_000)).toContain('measured 10 m 00 s ago');
  const soon = taken({ ...BUSY_KNOWN, storage: storage(5 * 86_400) });
  expect(soon.health.problems).toContain(
    'the disk of the database: 12 GiB free at b:5432, full in 5.0 days at 1.9 GiB a day',
  );
  expect(taken({ ...BUSY_KNOWN, storage: storage(30 * 86_400) }).health.problems.join()).not.toContain(
    'disk',
  );
  expect(rows(null, 0, screenOf(160, 22)), 'a low screen').not.toContain('feed rows');
});

test('a shard that moves comes first, and says where to and how far it is', () => {
  const shard = (n: number, bytes: number) => ({ shard: n, node: 'db1:5432', bytes, rows: 10 });
  const moves = [
    { pid: 1, shardIds: [7, 107], from: 'db1:5432', to: 'db2:5432', phase: 'Copying Data', bytes: 1_048_576 },
  ];
  const shards = { shards: [shard(8, 9e6), shard(7, 4_194_304)], nodes: [], skew: { shards: 1, nodes: 1 } };
  const snapshot = taken({ ...BUSY_KNOWN, shards, moves });
  const rows = textOf(snapshot, typed(snapshot, ['4']).state, screenOf(120, 24)).split('\n');
  expect(rows.find((row) => row.startsWith('›'))).toMatch(
    / 7 +db1:5432 → .* 1.0 MiB of 4.0 MiB to db2:5432, copying data$/,
  );
});
