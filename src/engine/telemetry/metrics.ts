import { EVENT_TYPES } from '../model/event.ts';
import { LANES } from '../model/lanes.ts';

/** As `queue` has them: those of all gateways are one to whoever watches. */
export const QUEUE_LABELS = ['events', 'events.bulk', 'rows.live', 'rows.bulk', 'cleanup', 'live'] as const;

/**
 * Every metric has one row here. Names are stable: dashboards, alerts and autoscalers read them. `docs/reference/metrics.md` has
 * a row for each; a test compares the two. Seconds are seconds, `_total` only grows, a label has few values.
 */
export const METRICS = {
  feedctl_fanout_rows_total: { type: 'counter', labels: [], help: 'Feed rows written for the first time' },
  feedctl_fanout_batch_seconds: {
    type: 'histogram',
    labels: [],
    help: 'Time to write one batch of feed rows; its count is the number of batches',
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60],
  },
  feedctl_fanout_latency_seconds: {
    type: 'histogram',
    labels: ['lane'],
    known: { lane: LANES },
    help: 'From the commit of a post to the commit of its feed rows, observed once a message of rows that were not there before',
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300],
  },
  feedctl_events_planned_total: {
    type: 'counter',
    labels: ['type'],
    known: { type: EVENT_TYPES },
    help: 'Events that the planner handled',
  },
  feedctl_events_swept_total: {
    type: 'counter',
    labels: [],
    help: 'Events published late, by the sweeper, as nobody had published them',
  },
  feedctl_bus_retries_total: {
    type: 'counter',
    labels: ['queue'],
    known: { queue: QUEUE_LABELS },
    help: 'Messages given back for another try',
  },
  feedctl_bus_dead_letters_total: {
    type: 'counter',
    labels: ['queue'],
    known: { queue: QUEUE_LABELS },
    help: 'Messages put aside for good',
  },
  feedctl_bus_handled_total: {
    type: 'counter',
    labels: ['queue'],
    known: { queue: QUEUE_LABELS },
    help: 'Messages handled and acked',
  },
  feedctl_queue_messages: {
    type: 'gauge',
    ofCluster: true,
    labels: ['queue', 'state'],
    help: 'Messages in a queue: `ready`, or `unacked` in the hands of consumers',
  },
  feedctl_queue_oldest_seconds: {
    type: 'gauge',
    ofCluster: true,
    labels: ['queue'],
    help: 'Age of the oldest message in a queue; at least, where a broker does not tell',
  },
  feedctl_dead_letters: {
    type: 'gauge',
    ofCluster: true,
    labels: ['queue'],
    help: 'Messages that are put aside now',
  },
  feedctl_lane_paused: {
    type: 'gauge',
    ofCluster: true,
    labels: ['lane'],
    help: '1 while an operator has paused the lane',
  },
  feedctl_lane_rate_limit: {
    type: 'gauge',
    ofCluster: true,
    labels: ['lane'],
    help: 'Rows a second that an operator has limited the lane to; 0: no limit',
  },
  feedctl_workers: {
    type: 'gauge',
    ofCluster: true,
    labels: [],
    help: 'Workers that are heard of, ready or not',
  },
  feedctl_gateways: { type: 'gauge', ofCluster: true, labels: [], help: 'Gateways that are heard of' },
  feedctl_online_users: {
    type: 'gauge',
    ofCluster: true,
    labels: [],
    help: 'Users with an open WebSocket at any gateway',
  },
  feedctl_node_lease_failures_total: {
    type: 'counter',
    labels: ['reason'],
    known: { reason: ['renewal', 'lost', 'exhausted'] },
    help: 'Times that a lease of a node number could not be renewed, was lost to another process, or was not to be had: without one no id is minted',
  },
  feedctl_dependency_circuit_state: {
    type: 'gauge',
    labels: ['dependency'],
    help: '0 closed: calls go out; 1 half-open: one call probes; 2 open: calls are refused',
  },
  feedctl_dependency_circuit_openings_total: {
    type: 'counter',
    labels: ['dependency'],
    help: 'Times the circuit breaker has opened',
  },
  feedctl_dependency_rejections_total: {
    type: 'counter',
    labels: ['dependency'],
    help: 'Calls refused because too many were waiting',
  },
  feedctl_dependency_retries_total: { type: 'counter', labels: ['dependency'], help: 'Calls made once more' },
  feedctl_dependency_timeouts_total: {
    type: 'counter',
    labels: ['dependency'],
    help: 'Calls cut off at their deadline',
  },
  feedctl_database_sessions: {
    type: 'gauge',
    labels: ['pool', 'state'],
    help: 'Database sessions, in_use or idle',
  },
  feedctl_database_waiting: {
    type: 'gauge',
    labels: ['pool'],
    help: 'Calls that wait for a database session',
  },
  feedctl_gateway_request_seconds: {
    type: 'histogram',
    labels: ['method', 'route', 'status'],
    help: 'Time to answer an HTTP request; those of `/metrics`, `/healthz`, `/readyz` and of operators are not among them',
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10],
  },
  feedctl_gateway_sockets: { type: 'gauge', labels: [], help: 'Open WebSockets' },
  feedctl_gateway_pushed_total: {
    type: 'counter',
    read: true,
    labels: [],
    help: 'Posts pushed to WebSockets',
  },
  feedctl_gateway_addressed_total: {
    type: 'counter',
    labels: ['listening'],
    known: { listening: ['yes', 'no'] },
    help: 'Posts that workers addressed to a user at this gateway; `yes`: the user had a socket open when they came',
  },
  feedctl_gateway_push_seconds: {
    type: 'histogram',
    labels: ['lane'],
    known: { lane: LANES },
    help: 'From the commit of a post to its last socket at this gateway, observed once a message',
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 2.5, 5, 10, 30, 60],
  },
  feedctl_gateway_closed_total: {
    type: 'counter',
    labels: ['code'],
    help: 'WebSockets closed by the gateway, by close code',
  },
  feedctl_gateway_refused_total: {
    type: 'counter',
    labels: ['status'],
    help: 'WebSockets refused at the handshake, by HTTP status',
  },
  feedctl_gateway_buffered_bytes: {
    type: 'gauge',
    labels: [],
    help: 'Bytes that wait in the gateway for clients to take them, of all WebSockets',
  },
  feedctl_gateway_rate_limited_total: {
    type: 'counter',
    labels: ['limit'],
    known: { limit: ['user', 'writer', 'ip', 'stranger', 'login'] },
    help: 'Requests and handshakes refused by a limit',
  },
  feedctl_gateway_live: {
    type: 'gauge',
    labels: [],
    help: '1 while posts come in live, 0 until every socket has been caught up',
  },
  feedctl_cache_hits_total: {
    type: 'counter',
    read: true,
    labels: ['cache'],
    help: 'Reads answered by a cache',
  },
  feedctl_cache_misses_total: {
    type: 'counter',
    read: true,
    labels: ['cache'],
    help: 'Reads a cache could not answer',
  },
  feedctl_cache_refills_total: {
    type: 'counter',
    read: true,
    labels: ['cache'],
    help: 'Entries read from the database into a cache',
  },
  feedctl_cache_failures_total: {
    type: 'counter',
    read: true,
    labels: ['cache'],
    help: 'Changes that a cache could not be told of',
  },
} as const satisfies Record<string, MetricRow>;

interface MetricRow {
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly labels: readonly string[];
  readonly help: string;
  /** Somebody else counts: it is read when asked for, as a gauge is. */
  readonly read?: true;
  /** One process tells it of the whole cluster, whichever that is. */
  readonly ofCluster?: true;
  /** Values of its label that are there from the start, at 0: what comes first would be no increase to Prometheus. */
  readonly known?: { readonly [label: string]: readonly string[] };
  /** Upper bounds, of a histogram. */
  readonly buckets?: readonly number[];
}

type Table = typeof METRICS;
type NameOf<Row> = { [Name in keyof Table]: Table[Name] extends Row ? Name : never }[keyof Table];
type Watched = NameOf<{ type: 'gauge' } | { read: true }>;
type Counted = Exclude<NameOf<{ type: 'counter' }>, Watched>;
type LabelsOf<Name extends keyof Table> = Record<Table[Name]['labels'][number], string>;
/** The labels of a metric that has some; nothing for one that has none. */
type LabelArguments<Name extends keyof Table> = Table[Name]['labels'] extends readonly []
  ? []
  : [labels: LabelsOf<Name>];

/** What the engine tells of its own work. Opened once a process, by the roles, and passed down by hand. */
export interface Metrics {
  count<Name extends Counted>(name: Name, by: number, ...labels: LabelArguments<Name>): void;
  observe<Name extends NameOf<{ type: 'histogram' }>>(
    name: Name,
    value: number,
    ...labels: LabelArguments<Name>
  ): void;
  /**
   * Read whenever somebody asks; several of the same labels are added up. What is undefined now is not there. Returns how to
   * take it out again; a counter then stays as it is.
   */
  watch<Name extends Watched>(
    name: Name,
    read: () => number | undefined,
    ...labels: LabelArguments<Name>
  ): () => void;
  /** All of them as numbers, those of the client library too. */
  samples(): Promise<Sample[]>;
  /** All of them in Prometheus' text format. */
  text(): Promise<string>;
  readonly contentType: string;
}

/** One number, as it is exposed: a histogram is several. */
export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string | number>>;
  readonly value: number;
  /** It is a count or a sum since the start. */
  readonly grows: boolean;
  /** It is the whole cluster's, and not this process's. */
  readonly ofCluster: boolean;
}

interface Reader {
  readonly read: () => number | undefined;
  readonly labels: Record<string, string>;
}

/** Of the client library, a gauge or a counter. */
interface Readable {
  reset(): void;
  remove(): void;
  inc(labels: Record<string, string>, by: number): void;
}

/** Metrics of the library that list every open socket, each time that they are read. */
const OF_EACH_SOCKET = ['handles', 'requests', 'resources'].flatMap((what) => [
  `nodejs_active_${what}`,
  `nodejs_active_${what}_total`,
]);

const knownLabels = ({ known = {} }: MetricRow): Record<string, string>[] =>
  Object.entries(known).flatMap(([label, values]) => values.map((value) => ({ [label]: value })));

/** A registry of its own, with the process's default metrics. The client library is only loaded here. */
export async function openMetrics(): Promise<Metrics> {
  const { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } = await import('prom-client');
  const register = new Registry();
  // The loop's delay is sampled by a timer: the default of 10 ms wakes an idle process 100 times a second.
  collectDefaultMetrics({ register, eventLoopMonitoringPrecision: 100 });
  for (const name of OF_EACH_SOCKET) register.removeSingleMetric(name);
  const counters = new Map<string, InstanceType<typeof Counter>>();
  const histograms = new Map<string, InstanceType<typeof Histogram>>();
  const watched = new Map<string, Set<Reader>>();
  for (const [name, row] of Object.entries(METRICS) as [string, MetricRow][]) {
    const { help } = row;
    const base = { name, help, labelNames: [...row.labels], registers: [register] };
    if (row.type === 'histogram') {
      const histogram = new Histogram({ ...base, buckets: [...(row.buckets ?? [])] });
      for (const labels of knownLabels(row)) histogram.zero(labels);
      histograms.set(name, histogram);
    } else if (row.type === 'counter' && !row.read) {
      const counter = new Counter(base);
      for (const labels of knownLabels(row)) counter.inc(labels, 0);
      counters.set(name, counter);
    } else {
      const readers = new Set<Reader>();
      watched.set(name, readers);
      const collect = function (this: Readable) {
        this.reset();
        // Nobody watches it in this process: a 0 would say that somebody did.
        if (row.labels.length === 0) this.remove();
        for (const { read, labels } of readers) {
          const value = read();
          if (value !== undefined) this.inc(labels, value);
        }
      };
      if (row.type === 'gauge') new Gauge({ ...base, collect });
      else new Counter({ ...base, collect });
    }
  }
  return {
    count: (name, by, ...[labels]) => counters.get(name)!.inc(labels ?? {}, by),
    observe: (name, value, ...[labels]) => histograms.get(name)!.observe(labels ?? {}, value),
    watch(name, read, ...[labels]) {
      const readers = watched.get(name)!;
      const reader = { read, labels: labels ?? {} };
      readers.add(reader);
      return () => {
        if (!readers.delete(reader) || METRICS[name].type === 'gauge') return;
        // What has been counted stays counted: the last figures of a process are sent after its parts have ended.
        const last = read();
        readers.add({ read: () => last, labels: reader.labels });
      };
    },
    async samples() {
      const metrics = await register.getMetricsAsJSON();
      return metrics.flatMap(({ name, type, values }) => {
        const grows = String(type) === 'counter' || String(type) === 'histogram';
        const row: MetricRow | undefined = METRICS[name as keyof Table];
        const ofCluster = row?.ofCluster === true;
        return (values as { value: number; labels: Sample['labels']; metricName?: string }[]).map(
          ({ value, labels, metricName }) => ({ name: metricName ?? name, labels, value, grows, ofCluster }),
        );
      });
    },
    text: () => register.metrics(),
    contentType: register.contentType,
  };
}
