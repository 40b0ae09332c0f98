import { type Known, snapshotOf, type TopSnapshot } from '../../../src/engine/monitoring/top/snapshot.ts';
import { ProcessStats } from '../../../src/engine/stats/process.ts';
import { frame } from '../../../src/ui/top/frame.ts';
import type { Screen } from '../../../src/ui/top/screen.ts';
import { reduce } from '../../../src/ui/top/state.ts';
import { paint } from '../../../src/ui/top/styledText.ts';
import { initialState, type KeyContext, type ViewState } from '../../../src/ui/top/viewState.ts';

export const NOON = Date.UTC(2026, 0, 1, 12);

export const source = (name: string, error?: { code: string; message: string }) => ({
  name,
  ageMs: error ? 12_000 : 400,
  tookMs: 3,
  everyMs: 1_000,
  error: error ? { ...error, forMs: 12_000 } : null,
});
export const NAMES = [
  'figures',
  'queues',
  'roles',
  'operations',
  'celebrities',
  'shards',
  'moves',
  'storage',
];

export const taken = (known: Known, change: Partial<Parameters<typeof snapshotOf>[0]> = {}): TopSnapshot =>
  snapshotOf({
    context: 'local',
    production: false,
    bus: 'RabbitMQ',
    known,
    sources: NAMES.map((name) => source(name)),
    backlogSeries: [1, 5, 9, 3],
    at: new Date(NOON),
    ...change,
  });

export const queue = (name: string, ready: number, eta: number | null = 0) => ({
  queue: name,
  ready,
  unacked: 0,
  oldestAgeMs: ready > 0 ? 1_500 : 0,
  deadLetters: 0,
  records: null,
  recordUnit: null,
  paused: false,
  inPerSecond: 10,
  outPerSecond: 20,
  etaSeconds: eta,
});

export const worker = (n: number, ready = true) => ({
  id: `w${n}`,
  host: `worker-${n}`,
  pid: 1_000 + n,
  version: '1.2.3',
  startedAt: new Date(NOON),
  drainable: true,
  heartbeatAgeMs: 10,
  rowsWritten: n,
  rowsPerSecond: n,
  lagMs: n,
  memoryBytes: 1_000_000 * n,
  reads: null,
  paused: [],
  live: true,
  there: ready,
  ready,
});

export function figuresOf(work: (stats: ProcessStats) => void) {
  let now = NOON;
  const stats = new ProcessStats(() => now);
  work(stats);
  now += 60_000;
  const told = { figures: stats.report(), errors: stats.errors };
  const state = { worker: 'w1', gateway: 'g1', sockets: 3_204, memoryBytes: 1e8, cpu: 0.25 };
  return [{ id: 'p', host: 'h', pid: 1, ageMs: 100, seenAt: told.figures.at, ...state, ...told }];
}

export const EMPTY = taken({
  figures: [],
  queues: ['events', 'rows.live'].map((name) => queue(name, 0)),
  lanes: [],
  workers: [],
  gateways: [],
  operations: [],
  celebrities: [],
  shards: { shards: [], nodes: [], skew: { shards: 1, nodes: 1 } },
});

export const BUSY_KNOWN: Known = {
  figures: figuresOf((stats) => {
    stats.count('planned', 7_200);
    stats.count('deliveries', 2_880_000);
    stats.recordLatency(12, 1_000);
    stats.recordPlanned(42, 5_000);
    stats
      .watchLog({ info() {}, warn() {}, error() {} })
      .error({ reason: 'えらい事になった 🚨 \u001b[31m' }, 'failed');
  }),
  queues: [queue('events', 3), queue('rows.live', 12_345, 42)],
  lanes: [],
  workers: [worker(1), worker(2, false)],
  gateways: [
    {
      id: 'g1',
      url: 'http://10.0.0.1:7070',
      startedAt: new Date(NOON),
      heartbeatAgeMs: 5,
      replaced: false,
      online: 9,
    },
  ],
  operations: [],
  celebrities: [{ userId: 88, state: 'pull', pinned: true, followers: 23_143, posts: 7 }],
  shards: { shards: [], nodes: [], skew: { shards: 1, nodes: 1 } },
};
export const BUSY = taken(BUSY_KNOWN);

export const storage = (fullInSeconds: number | null, ageMs = 9_000) => ({
  measuredAt: new Date(NOON - ageMs).toISOString(),
  ageMs,
  partitions: 14,
  rows: 1_234_567,
  bytes: 150 * 2 ** 20,
  oldestAt: new Date(NOON - 5 * 3_600_000).toISOString(),
  walBytesPerRow: 131,
  servers: [
    { server: 'a:5432', databaseBytes: 1e9, growthBytesPerDay: 0, freeBytes: 2e9, fullInSeconds: null },
    { server: 'b:5432', databaseBytes: 1e9, growthBytesPerDay: 2e9, freeBytes: 12 * 2 ** 30, fullInSeconds },
  ],
});

const DATABASE: Known['database'] = {
  version: '18.4',
  sessions: [
    { state: 'active', count: 3 },
    { state: 'idle', count: 9 },
    { state: 'idle in transaction', count: 1 },
  ],
  maxSessions: 100,
  commitsPerSecond: 1_234.5,
  rollbacksPerSecond: 0,
  rowsWrittenPerSecond: 48_000,
  walBytesPerSecond: 6_500_000,
  cacheHitShare: 0.873,
  deadlocks: 2,
  temporaryBytes: 0,
  blocked: [
    {
      pid: 71,
      user: 'feeds',
      application: 'worker',
      waitsSeconds: 12,
      blockedBy: [99],
      statement: 'update users set version = 2',
      blocker: 'idle in transaction: lock table users',
    },
  ],
  longest: [
    {
      pid: 99,
      user: 'ops',
      application: 'psql',
      state: 'idle in transaction',
      seconds: 75,
      waitsFor: null,
      statement: 'lock table users \u001b[31m',
    },
  ],
  slowest: [{ statement: 'select 1 from posts', calls: 12_345, meanMs: 7.25, totalSeconds: 89 }],
  partitions: [{ name: 'feed_items_20261130t06', bytes: 2 ** 30, rows: 12_345_678 }],
};

/** A snapshot with the sources of single panes too. */
export const FULL = taken({
  ...BUSY_KNOWN,
  storage: storage(30 * 86_400),
  database: DATABASE,
  machine: {
    host: 'ops-1',
    cpus: 4,
    cpuShare: 0.42,
    load: [5.1, 2.25, 1],
    memoryBytes: 8 * 2 ** 30,
    memoryUsedBytes: 2 * 2 ** 30,
    diskBytes: 100 * 2 ** 30,
    diskFreeBytes: 30 * 2 ** 30,
    diskReadPerSecond: 0,
    diskWrittenPerSecond: 1_000_000,
    receivedPerSecond: 2_000,
    sentPerSecond: null,
  },
  events: [
    {
      id: 2_001,
      type: 'post.created',
      aggregateId: 88,
      subjectId: 2_000,
      occurredAt: new Date(NOON - 1_000),
      dispatchedAt: null,
    },
  ],
});

export const gone = (code: string, message: string, of: readonly string[]): TopSnapshot['sources'] =>
  NAMES.map((name) => source(name, of.includes(name) ? { code, message } : undefined));
export const NO_BROKER = taken(BUSY_KNOWN, {
  sources: gone('BROKER_UNREACHABLE', 'cannot reach the broker amqp://mq', ['queues']),
});
export const NO_DATABASE = taken(BUSY_KNOWN, {
  sources: gone('DATABASE_UNREACHABLE', 'cannot reach the database postgres://db', NAMES),
});
export const NOTHING_KNOWN = taken(
  {},
  {
    backlogSeries: [],
    sources: gone('DATABASE_UNREACHABLE', 'cannot reach the database postgres://db', NAMES),
  },
);
export const MANY = taken({
  ...BUSY_KNOWN,
  workers: Array.from({ length: 10_000 }, (_, n) => worker(n, n % 1_000 !== 7)),
});

export const screenOf = (width: number, height: number, admin?: Screen['admin']): Screen => ({
  width,
  height,
  admin,
  memory: new Map(),
});
export const textOf = (snapshot: TopSnapshot, state: ViewState, screen: Screen): string =>
  frame(snapshot, state, screen)
    .map((line) => paint(line, false))
    .join('\n');

/** The state after these keys. */
export function typed(
  snapshot: TopSnapshot,
  keys: readonly string[],
  admin?: Screen['admin'],
  start = initialState(1),
  more: Pick<KeyContext, 'times' | 'replay'> = {},
) {
  const memory = new Map();
  let state = start;
  const effects: unknown[] = [];
  for (const key of keys) {
    const reduced = reduce(state, key, { snapshot, page: 10, admin, memory, ...more });
    state = reduced.state;
    if (reduced.effect) effects.push(reduced.effect);
  }
  return { state, effects };
}
export const word = (text: string): string[] => [...text].map((char) => (char === ' ' ? 'space' : char));
