import { type Static, Type } from 'typebox';

/** Rows of each list in a snapshot: more would be neither read nor cheap once a second. */
export const MAX_ROWS = 50;

const orNull = <T extends Parameters<typeof Type.Union>[0][number]>(type: T, description?: string) =>
  Type.Union([type, Type.Null()], description === undefined ? {} : { description });
const Count = Type.Integer({ minimum: 0 });
const PerSecond = Type.Number({ description: 'a second, over the last minute' });
const Series = Type.Array(Type.Number());

const Rates = Type.Object({
  created: PerSecond,
  deliveries: PerSecond,
  pushed: PerSecond,
  errors: PerSecond,
});

const SeriesOfRates = Type.Object(
  {
    stepSeconds: Type.Integer(),
    endsAt: orNull(Type.String({ format: 'date-time' })),
    created: Series,
    deliveries: Series,
    pushed: Series,
    errors: Series,
  },
  { description: 'counts of the last five minutes in steps, the oldest first' },
);

const Backlog = Type.Object({
  messages: Count,
  etaSeconds: orNull(Type.Number(), 'null: a queue does not get shorter'),
  stuck: Type.Boolean(),
  deadLetters: Count,
  oldestAgeMs: orNull(Type.Number()),
});

const Queue = Type.Object({
  queue: Type.String(),
  waiting: Count,
  inFlight: Count,
  inPerSecond: orNull(Type.Number()),
  outPerSecond: orNull(Type.Number()),
  oldestAgeMs: orNull(Type.Number()),
  deadLetters: Count,
  paused: Type.Boolean(),
});

const process = {
  id: Type.String(),
  ready: Type.Boolean(),
  cpu: orNull(Type.Number(), 'share of one core'),
  memoryBytes: orNull(Type.Number()),
};
const Worker = Type.Object({
  ...process,
  host: Type.String(),
  version: Type.String(),
  deliveriesPerSecond: orNull(Type.Number()),
});
const Gateway = Type.Object({
  ...process,
  url: Type.String(),
  sockets: orNull(Count),
  pushedPerSecond: orNull(Type.Number()),
});

const Operation = Type.Object({
  id: Type.Integer(),
  kind: Type.String(),
  key: Type.String(),
  state: Type.String(),
  done: orNull(Type.Number()),
  total: orNull(Type.Number()),
  unit: orNull(Type.String()),
  etaSeconds: orNull(Type.Number()),
});

const Warning = Type.Object({
  level: Type.String(),
  code: orNull(Type.String()),
  text: Type.String(),
  count: Count,
  lastAt: Type.String(),
  role: Type.String(),
  host: Type.String(),
});

const list = <T extends Parameters<typeof Type.Array>[0]>(row: T) =>
  orNull(Type.Object({ total: Count, rows: Type.Array(row, { maxItems: MAX_ROWS }) }));

/** State of the cluster for operators, as `top` shows it. A null has not been answered yet. */
export const ClusterSnapshot = Type.Object({
  takenAt: Type.String({ format: 'date-time' }),
  context: Type.String(),
  production: Type.Boolean(),
  bus: orNull(Type.String()),
  health: Type.Object({
    state: Type.Union([Type.Literal('ok'), Type.Literal('degraded'), Type.Literal('down')]),
    problems: Type.Array(Type.String()),
  }),
  rates: orNull(Rates),
  latencyMs: orNull(
    Type.Object({ p50: Type.Number(), p99: Type.Number() }),
    'of live posts in the last minute, from their commit to that of their feed rows; null: none',
  ),
  series: orNull(SeriesOfRates),
  sockets: orNull(Count),
  cacheHitRate: orNull(Type.Number()),
  backlog: orNull(Backlog),
  backlogSeries: Type.Array(Count, {
    description: 'messages in all queues, one value in 5 s since the first viewer, the oldest first',
  }),
  queues: list(Queue),
  workers: list(Worker),
  gateways: list(Gateway),
  operations: orNull(Type.Array(Operation, { maxItems: MAX_ROWS, description: 'those that run' })),
  warnings: orNull(Type.Array(Warning, { maxItems: MAX_ROWS, description: 'the newest first' })),
});
export type ClusterSnapshot = Static<typeof ClusterSnapshot>;
