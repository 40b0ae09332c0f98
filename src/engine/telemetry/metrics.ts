import type { Counter, Histogram, Registry } from 'prom-client';
import { EVENT_TYPES } from '../model/event.ts';
import { LANES } from '../model/lanes.ts';
import { MISMATCH_KINDS } from '../model/sample.ts';

/** Values of the label `queue`. The queues of all gateways share `live`. */
export const QUEUE_LABELS = ['events', 'events.bulk', 'rows.live', 'rows.bulk', 'cleanup', 'live'] as const;

/**
 * Table of all metrics. Names are stable, because dashboards, alerts and autoscalers read them. A test
 * compares the table with docs/reference/metrics.md. `_seconds` are seconds, `_total` only grows, and a
 * label has few values.
 */
export const METRICS = {
  feedctl_fanout_rows_total: { type: 'counter', labels: [], help: 'Feed rows written for the first time' },
  feedctl_fanout_batch_seconds: {
    type: 'histogram',
    labels: [],
    help: 'Time to write one batch of feed rows',
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60],
  },
  feedctl_fanout_latency_seconds: {
    type: 'histogram',
    labels: ['lane'],
    known: { lane: LANES },
    help: 'Time from the commit of a post to its new feed rows',
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300],
  },
  feedctl_events_planned_total: {
    type: 'counter',
    labels: ['type'],
    known: { type: EVENT_TYPES },
    help: 'Events that the planner processed',
  },
  feedctl_events_swept_total: {
    type: 'counter',
    labels: [],
    help: 'Events that the sweeper published',
  },
  feedctl_bus_retries_total: {
    type: 'counter',
    labels: ['queue'],
    known: { queue: QUEUE_LABELS },
    help: 'Messages requeued for a retry',
  },
  feedctl_bus_dead_letters_total: {
    type: 'counter',
    labels: ['queue'],
    known: { queue: QUEUE_LABELS },
    help: 'Messages that became dead letters',
  },
  feedctl_bus_handled_total: {
    type: 'counter',
    labels: ['queue'],
    known: { queue: QUEUE_LABELS },
    help: 'Messages processed and acked',
  },
  feedctl_queue_messages: {
    type: 'gauge',
    ofCluster: true,
    labels: ['queue', 'state'],
    help: 'Messages in a queue: `ready`, or `unacked`, in flight',
  },
  feedctl_queue_oldest_seconds: {
    type: 'gauge',
    ofCluster: true,
    labels: ['queue'],
    help: 'Age of the oldest message, or its lower bound',
  },
  feedctl_broker_refused: {
    type: 'gauge',
    labels: ['code'],
    help: '1 while the process takes no messages, by error code',
  },
  feedctl_dead_letters: {
    type: 'gauge',
    ofCluster: true,
    labels: ['queue'],
    help: 'Dead letters now',
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
    help: 'Row limit of a lane a second; 0 is no limit',
  },
  feedctl_workers: {
    type: 'gauge',
    ofCluster: true,
    labels: [],
    help: 'Workers that report, ready or not',
  },
  feedctl_gateways: { type: 'gauge', ofCluster: true, labels: [], help: 'Gateways that report' },
  feedctl_online_users: {
    type: 'gauge',
    ofCluster: true,
    labels: [],
    help: 'Users with an open WebSocket at any gateway',
  },
  feedctl_feed_partitions: { type: 'gauge', ofCluster: true, labels: [], help: 'Partitions of feed rows' },
  feedctl_feed_rows: {
    type: 'gauge',
    ofCluster: true,
    labels: [],
    help: 'Feed rows by the statistics of the servers',
  },
  feedctl_feed_bytes: {
    type: 'gauge',
    ofCluster: true,
    labels: [],
    help: 'Bytes of the feed rows with their indexes',
  },
  feedctl_feed_oldest_seconds: {
    type: 'gauge',
    ofCluster: true,
    labels: [],
    help: 'Time since the oldest partition of feed rows began',
  },
  feedctl_feed_wal_bytes_per_row: {
    type: 'gauge',
    ofCluster: true,
    labels: [],
    help: 'WAL bytes of the servers for each new feed row',
  },
  feedctl_node_lease_failures_total: {
    type: 'counter',
    labels: ['reason'],
    known: { reason: ['renewal', 'lost', 'exhausted'] },
    help: 'Failed leases of a node number, which ids need',
  },
  feedctl_clock_offset_seconds: {
    type: 'gauge',
    labels: [],
    help: 'Clock of the machine minus the clock of the database',
  },
  feedctl_dependency_circuit_state: {
    type: 'gauge',
    labels: ['dependency'],
    help: 'Circuit: 0 closed, 1 half-open, 2 open',
  },
  feedctl_dependency_circuit_openings_total: {
    type: 'counter',
    labels: ['dependency'],
    help: 'Times that the circuit opened',
  },
  feedctl_dependency_rejections_total: {
    type: 'counter',
    labels: ['dependency'],
    help: 'Calls refused at the limit of waiting calls',
  },
  feedctl_dependency_retries_total: { type: 'counter', labels: ['dependency'], help: 'Calls retried' },
  feedctl_dependency_timeouts_total: {
    type: 'counter',
    labels: ['dependency'],
    help: 'Calls that timed out',
  },
  feedctl_role_fault: {
    type: 'gauge',
    labels: ['code'],
    help: '1 while a dependency fails as this role uses it',
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
    help: 'Time to answer an HTTP request',
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
    help: 'Posts addressed to this gateway',
  },
  feedctl_gateway_push_seconds: {
    type: 'histogram',
    labels: ['lane'],
    known: { lane: LANES },
    help: 'Time from the commit of a post to its last socket',
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
    help: 'Bytes that wait in the gateway for its clients',
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
    help: '1 live, 0 until each socket has caught up',
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
    help: 'Changes that a cache missed',
  },
  feedctl_sampled_feeds_total: {
    type: 'counter',
    labels: [],
    help: 'Feeds compared with the database in the background',
  },
  feedctl_sampled_mismatches_total: {
    type: 'counter',
    labels: ['kind'],
    known: { kind: MISMATCH_KINDS },
    help: 'Looks at a sampled feed that differed twice',
  },
} as const satisfies Record<string, MetricRow>;

interface MetricRow {
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly labels: readonly string[];
  readonly help: string;
  /** A counter that other code keeps, and that is read when metrics are exported, like a gauge. */
  readonly read?: true;
  /** One process, the leader, exports it for the whole cluster. */
  readonly ofCluster?: true;
  /** Label values that are exported from the start, at 0: Prometheus sees no increase in a first value. */
  readonly known?: { readonly [label: string]: readonly string[] };
  /** Upper bounds of a histogram. */
  readonly buckets?: readonly number[];
}

type Table = typeof METRICS;
type NameOf<Row> = { [Name in keyof Table]: Table[Name] extends Row ? Name : never }[keyof Table];
type Watched = NameOf<{ type: 'gauge' } | { read: true }>;
type Counted = Exclude<NameOf<{ type: 'counter' }>, Watched>;
type LabelsOf<Name extends keyof Table> = Record<Table[Name]['labels'][number], string>;
/** Arguments for the labels of a metric: none if it has no labels. */
type LabelArguments<Name extends keyof Table> = Table[Name]['labels'] extends readonly []
  ? []
  : [labels: LabelsOf<Name>];

/** Metrics of a process. A role opens them once and passes them down by argument. */
export interface Metrics {
  count<Name extends Counted>(name: Name, by: number, ...labels: LabelArguments<Name>): void;
  observe<Name extends NameOf<{ type: 'histogram' }>>(
    name: Name,
    value: number,
    ...labels: LabelArguments<Name>
  ): void;
  /**
   * Exports a value that `read` returns. Several readers with the same labels are added up, and an
   * undefined value is left out. Returns a function that removes the reader; a counter keeps its last
   * value.
   */
  watch<Name extends Watched>(
    name: Name,
    read: () => number | undefined,
    ...labels: LabelArguments<Name>
  ): () => void;
  /** Returns all metrics as numbers, with those of the client library. */
  samples(): Promise<Sample[]>;
  /** Returns all metrics in the text format of Prometheus. */
  text(): Promise<string>;
  readonly contentType: string;
}

/** One exported number. A histogram has several. */
export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string | number>>;
  readonly value: number;
  /** A count or a sum since the start of the process. */
  readonly grows: boolean;
  /** A value of the whole cluster, not of this process. */
  readonly ofCluster: boolean;
}

interface Reader {
  readonly read: () => number | undefined;
  readonly labels: Record<string, string>;
}

/** A gauge or a counter of the client library. */
interface Collected {
  reset(): void;
  remove(): void;
  inc(labels: Record<string, string>, by: number): void;
}

/** Metrics of the library that walk all open sockets on each export. They are removed. */
const COSTLY = ['handles', 'requests', 'resources'].flatMap((kind) => [
  `nodejs_active_${kind}`,
  `nodejs_active_${kind}_total`,
]);

const knownLabels = ({ known = {} }: MetricRow): Record<string, string>[] =>
  Object.entries(known).flatMap(([label, values]) => values.map((value) => ({ [label]: value })));

/** Opens a registry with the default metrics of the process. Loads the client library. */
export async function openMetrics(): Promise<Metrics> {
  return new PrometheusMetrics(await import('prom-client'));
}

type Library = typeof import('prom-client');

class PrometheusMetrics implements Metrics {
  readonly contentType: string;
  readonly #registry: Registry;
  readonly #counters = new Map<string, Counter>();
  readonly #histograms = new Map<string, Histogram>();
  readonly #readers = new Map<string, Set<Reader>>();

  constructor(library: Library) {
    this.#registry = new library.Registry();
    this.contentType = this.#registry.contentType;
    // A timer samples the delay of the event loop. Its default, 10 ms, would wake an idle process 100 times a
    // second.
    library.collectDefaultMetrics({ register: this.#registry, eventLoopMonitoringPrecision: 100 });
    for (const name of COSTLY) this.#registry.removeSingleMetric(name);
    for (const [name, row] of Object.entries<MetricRow>(METRICS)) this.#register(library, name, row);
  }

  #register({ Counter, Gauge, Histogram }: Library, name: string, row: MetricRow): void {
    const base = { name, help: row.help, labelNames: [...row.labels], registers: [this.#registry] };
    if (row.type === 'histogram') {
      const histogram = new Histogram({ ...base, buckets: [...(row.buckets ?? [])] });
      for (const labels of knownLabels(row)) histogram.zero(labels);
      this.#histograms.set(name, histogram);
    } else if (row.type === 'counter' && !row.read) {
      const counter = new Counter(base);
      for (const labels of knownLabels(row)) counter.inc(labels, 0);
      this.#counters.set(name, counter);
    } else {
      const readers = new Set<Reader>();
      this.#readers.set(name, readers);
      const collect = collector(readers, row);
      if (row.type === 'gauge') new Gauge({ ...base, collect });
      else new Counter({ ...base, collect });
    }
  }

  count<Name extends Counted>(name: Name, by: number, ...[labels]: LabelArguments<Name>): void {
    this.#counters.get(name)!.inc(labels ?? {}, by);
  }

  observe<Name extends NameOf<{ type: 'histogram' }>>(
    name: Name,
    value: number,
    ...[labels]: LabelArguments<Name>
  ): void {
    this.#histograms.get(name)!.observe(labels ?? {}, value);
  }

  watch<Name extends Watched>(
    name: Name,
    read: () => number | undefined,
    ...[labels]: LabelArguments<Name>
  ): () => void {
    const readers = this.#readers.get(name)!;
    const reader = { read, labels: labels ?? {} };
    readers.add(reader);
    return () => {
      if (!readers.delete(reader) || METRICS[name].type === 'gauge') return;
      // The last metrics of a process are sent after its parts have ended: their counts stay.
      const last = read();
      readers.add({ read: () => last, labels: reader.labels });
    };
  }

  async samples(): Promise<Sample[]> {
    const metrics = await this.#registry.getMetricsAsJSON();
    return metrics.flatMap(({ name, type, values }) => {
      const grows = String(type) === 'counter' || String(type) === 'histogram';
      const row: MetricRow | undefined = METRICS[name as keyof Table];
      const ofCluster = row?.ofCluster === true;
      return (values as { value: number; labels: Sample['labels']; metricName?: string }[]).map(
        ({ value, labels, metricName }) => ({ name: metricName ?? name, labels, value, grows, ofCluster }),
      );
    });
  }

  text(): Promise<string> {
    return this.#registry.metrics();
  }
}

/** Returns the function with which the library reads a gauge or a counter on each export. */
const collector = (readers: ReadonlySet<Reader>, { labels }: MetricRow) =>
  function (this: Collected) {
    this.reset();
    // The library exports 0 for a metric without labels. Without a reader that 0 is not measured.
    if (labels.length === 0) this.remove();
    for (const { read, labels } of readers) {
      const value = read();
      if (value !== undefined) this.inc(labels, value);
    }
  };
