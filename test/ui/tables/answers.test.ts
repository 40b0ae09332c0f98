import { expect, test } from 'vitest';
import { counted } from '../../../src/engine/model/counted.ts';
import type { OperationRow } from '../../../src/engine/operations/table.ts';
import { nameOf, outcomeOf } from '../../../src/ui/columns/operations.ts';
import { holdsText } from '../../../src/ui/columns/queues.ts';
import { defaultsLine, reportLines } from '../../../src/ui/tables/doctor.ts';
import { importedLines } from '../../../src/ui/tables/imports.ts';
import { probeVerdict } from '../../../src/ui/tables/probe.ts';
import { ratesTable } from '../../../src/ui/tables/rates.ts';
import { resultText } from '../../../src/ui/tables/result.ts';
import { verifyLines } from '../../../src/ui/tables/verify.ts';

test('a number has the noun that it needs', () => {
  expect([0, 1, 2, 1_200].map((count) => counted(count, 'post'))).toEqual([
    '0 posts',
    '1 post',
    '2 posts',
    '1,200 posts',
  ]);
  expect(counted(2, 'delivery', 'deliveries')).toBe('2 deliveries');
});

const FINE = {
  checked: 1_200,
  mismatched: 0,
  users: [],
  missing: 0,
  strangers: 0,
  orphans: 0,
  duplicates: 0,
  stale: 0,
  asymmetric: 0,
  repaired: 0,
};

test('a comparison of feeds says in a sentence whether they are right', () => {
  const lines = (change: object, user?: number, repair = false) =>
    verifyLines({ ...FINE, ...change }, { user, repair });
  expect(lines({})).toEqual(['All 1,200 feeds are as they should be.']);
  expect(lines({ checked: 1 }, 3)).toEqual(['The feed of user 3 is as it should be.']);
  expect(lines({ checked: 0 })).toEqual(['There is no feed to compare.']);
  expect(lines({ mismatched: 2, users: [2, 3], missing: 16, strangers: 1 })).toEqual([
    '2 of 1,200 feeds differ: 16 rows missing, 1 row of authors who are not followed.',
    'Users: 2, 3',
    'If no post is in flight, repair it: `feedctl feed verify --all --repair`.',
  ]);
  expect(lines({ checked: 1, mismatched: 1, users: [3], missing: 1 }, 3)).toEqual([
    'The feed of user 3 differs: 1 row missing.',
    'If no post is in flight, repair it: `feedctl feed verify 3 --repair`.',
  ]);
  expect(lines({ mismatched: 1, users: [9], missing: 1, repaired: 1 }, undefined, true)).toEqual([
    '1 of 1,200 feeds differed: 1 row missing. All of it is repaired.',
    'User: 9',
  ]);
  // Only texts and pairs: no feed differs, and the answer is not that all is well.
  expect(lines({ stale: 2, asymmetric: 1 })[0]).toBe(
    'No feed differs, but there is more: 2 cached texts out of date, 1 follow known to one side only.',
  );
});

test('the result of an operation is in words, without braces and long fractions', () => {
  const replayed = {
    posts: 20_000,
    seconds: 0.39139528600000006,
    deliveriesPerSecond: 144_578,
    latencyMs: { p50: 3.2, p99: 1_200 },
    userId: 3_478_545_788_258_176,
    dryRun: false,
    nextId: null,
    failures: [],
  };
  expect(resultText(replayed)).toBe(
    '20,000 posts, 391 ms, 144,578 deliveries/s, latency p50 3.2 ms p99 1.2 s, user 3478545788258176',
  );
  const row = { state: 'done', error: null, result: { users: 1 }, waitsFor: null };
  expect(outcomeOf(row as unknown as OperationRow)).toBe('1 user');
  expect(nameOf({ kind: 'generate', key: 'generate users=3000' })).toBe('generate users=3000');
  expect(nameOf({ kind: 'replay', key: 'a'.repeat(64) })).toBe('replay aaaaaaaaaaaa');
  expect(nameOf({ kind: 'erase', key: '42' })).toBe('erase 42');
});

test('faults come first, and settings by default in a line', () => {
  const check = (name: string, status: 'ok' | 'warning' | 'fault') => ({ name, status, detail: 'x' });
  const checks = [
    check('node', 'ok'),
    check('disk', 'warning'),
    { ...check('schema', 'fault'), fix: 'Mend it.' },
  ];
  expect(reportLines({ context: 'local', ok: false, settings: [], checks })).toEqual([
    'local has 1 fault and 1 warning; 1 check passed.',
    'FAULT    schema: x',
    '         Try: Mend it.',
    'WARNING  disk: x',
    'ok       node: x',
  ]);
  const setting = (name: string, value: string) => ({ name, value, source: 'default' as const });
  expect(defaultsLine([setting('cacheUrl', '(none)'), setting('production', 'false')])).toBe(
    'By default: production false.\nNot set: cacheUrl.',
  );
});

test('a probe says where a post is stuck, or how long it took', () => {
  const result = {
    ok: true,
    gatewayUrl: 'http://h:1',
    postId: 1,
    totalMs: 49.9,
    maxMs: 1_000,
    stuckAt: null,
    reason: null,
    cleanedUp: true,
  };
  const said = (change: object) => probeVerdict({ ...result, ...change })[1];
  expect(said({})).toBe('The live path works: a post took 49.9 ms to a socket of http://h:1.');
  expect(said({ ok: false, totalMs: 1_200 })).toBe(
    'The live path is slow at http://h:1: a post took 1200 ms, the limit is 1000 ms.',
  );
  expect(said({ ok: false, totalMs: null, stuckAt: 'written', reason: 'late' })).toBe(
    'The live path is STUCK at http://h:1: no worker wrote the post to the feed (late).',
  );
});

test('a replay that finds everything posted says that there is nothing to do', () => {
  const latencyMs = { p50: 1, p95: 2, p99: 3 };
  const result = {
    rows: 20_000,
    posts: 0,
    deliveries: 0,
    merged: 0,
    seconds: 0.4,
    deliveriesPerSecond: 0,
    latencyMs,
  };
  expect(importedLines(result)).toEqual(['Nothing to do: all 20,000 rows were posted before.']);
  expect(importedLines({ ...result, rows: 0 })).toEqual(['Nothing to do: the file has no rows.']);
  expect(
    importedLines({ ...result, posts: 19_999, deliveries: 1, merged: 1, deliveriesPerSecond: 2 }),
  ).toEqual([
    '19,999 posts became 1 delivery in 400 ms (2/s); 1 post is merged when read. 1 row was posted before.',
    'From post to feed: p50 1 ms, p95 2 ms, p99 3 ms.',
  ]);
});

test('rates are about the time that has passed', () => {
  const windows = { '1s': 0, '1m': 0, '5m': 0, '1h': 0 };
  const each = Object.fromEntries(Object.keys(windows).map((name) => [name, { count: 0, perSecond: 0 }]));
  const rate = { sliding: each, tumbling: each };
  const names = ['created', 'planned', 'merged', 'deliveries', 'pushed', 'errors'];
  const head = (countedSeconds: number) =>
    ratesTable(
      {
        rates: Object.fromEntries(names.map((name) => [name, rate])),
        latencyMs: { '1s': null, '1m': null, '5m': null, '1h': null },
        countedSeconds,
      } as unknown as Parameters<typeof ratesTable>[0],
      { borders: false },
    )
      .split('\n')[0]!
      .split(/ {2,}/)
      .slice(1);
  expect(head(0)).toEqual(['1 s']);
  expect(head(18)).toEqual(['1 s', '18.0 s']);
  expect(head(60)).toEqual(['1 s', '1 m']);
  expect(head(400)).toEqual(['1 s', '1 m', '5 m', '6 m 40 s']);
  expect(head(3_600)).toEqual(['1 s', '1 m', '5 m', '1 h']);
});

test('a backlog is in events and rows beside messages', () => {
  const depth = { queue: 'rows.bulk', ready: 2, unacked: 1, oldestAgeMs: 5, deadLetters: 0 };
  expect(holdsText({ ...depth, records: 16_385, recordUnit: 'rows' })).toBe('16,385 rows');
  expect(holdsText({ ...depth, records: 1, recordUnit: 'events' })).toBe('1 event');
  expect(holdsText({ ...depth, records: null, recordUnit: null })).toBe('-');
  expect(holdsText({ ...depth, ready: 0, unacked: 0, records: 0, recordUnit: 'rows' })).toBe('');
});
