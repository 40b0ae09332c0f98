import { setTimeout as sleep } from 'node:timers/promises';
import { messagesIn } from '../../bus/depths.ts';
import type { Config } from '../../config/config.ts';
import { isFeedctlError } from '../../model/errors.ts';
import { settleWithin } from '../../util/deadline.ts';
import { TopConnection } from './connection.ts';
import { PANE_SOURCES, type PaneSource } from './paneSources.ts';
import { snapshotOf, type TopSnapshot } from './snapshot.ts';
import type { Source } from './source.ts';
import { openSources, type TopSources } from './sources.ts';

/** Maximum wait for the first frame: a source that takes longer is in one of the next. */
const FIRST_MS = 1_000;
/** The backlog of the last ten minutes, one value in 5 s. */
const STEP_MS = 5_000;
const MAX_STEPS = 120;
/** Rates of queues are computed from two views, this far apart. */
const BETWEEN_VIEWS_MS = 1_000;

/** Errors that end by themselves. A wrong password or a missing schema does not. */
const TRANSIENT_CODES = ['DATABASE_UNREACHABLE', 'TIMED_OUT', 'OVERLOADED'] as const;

/** Collects snapshots of a cluster, from the sources that answer. */
export interface TopCollector {
  /**
   * Asks each source that is due. `onChange` is called when one has answered or failed. `shown`: sources of
   * panes that are shown; the others of `PANE_SOURCES` are not asked.
   */
  refresh(intervalMs: number, shown?: readonly PaneSource[]): void;
  /** Returns the last answers of all sources. */
  snapshot(): TopSnapshot;
  onChange: () => void;
  close(): Promise<void>;
}

/**
 * Opens a collector and asks every source once. A database or a broker that is down or does not
 * answer is no error: it is asked again. Throws what waiting does not fix: CLUSTER_NOT_RUNNING,
 * SCHEMA_MISSING, DATABASE_REFUSED, CONFIG_INVALID and the like.
 *
 * `complete`: waits until every source has answered or failed, and asks the queues twice for their
 * rates, which takes at most 11 s. Without it, waits at most 1 s.
 */
export async function openTop(config: Config, options: { complete: boolean }): Promise<TopCollector> {
  const collector = new Collector(config);
  try {
    await collector.begin(options.complete);
    return collector;
  } catch (error) {
    await collector.close();
    throw error;
  }
}

class Collector implements TopCollector {
  readonly #config: Config;
  readonly #connection: TopConnection;
  readonly #sources: TopSources;
  readonly #all: readonly Source<unknown>[];
  /** Messages in all queues, one value in 5 s, the oldest first. */
  readonly #backlogSeries: number[] = [];
  /** Number of the last step of the series. */
  #step = -1;
  /** The database or the broker does not answer. */
  #serversSilent = false;
  #probing = false;
  onChange = (): void => {};

  constructor(config: Config) {
    this.#config = config;
    this.#connection = new TopConnection(config);
    this.#sources = openSources(config, this.#connection);
    this.#all = Object.values(this.#sources);
  }

  async begin(complete: boolean): Promise<void> {
    const first = complete ? this.#all : this.#wanted([]);
    const asked = Promise.all(first.map((source) => this.#ask(source, () => source.refresh())));
    await this.#connection.get().catch((error) => {
      if (!TRANSIENT_CODES.some((code) => isFeedctlError(error, code))) throw error;
    });
    await (complete ? asked : settleWithin(FIRST_MS, asked));
    const { queues, database } = this.#sources;
    const again = [queues, database].filter(({ error }) => !error);
    if (!complete || again.length === 0) return;
    await sleep(BETWEEN_VIEWS_MS);
    await Promise.all(again.map((source) => source.refreshNow()));
  }

  refresh(intervalMs: number, shown: readonly PaneSource[] = []): void {
    if (this.#connection.closed) return;
    for (const source of this.#wanted(shown)) void this.#ask(source, () => source.refresh(intervalMs));
    void this.#probe();
  }

  #wanted(shown: readonly PaneSource[]): Source<unknown>[] {
    const resting = PANE_SOURCES.filter((name) => !shown.includes(name)).map((name) => this.#sources[name]);
    return this.#all.filter((source) => !resting.some((one) => one === source));
  }

  snapshot(): TopSnapshot {
    const { figures, queues, roles, operations, celebrities, shards, moves, storage } = this.#sources;
    const { database, machine, events } = this.#sources;
    return snapshotOf({
      context: this.#config.context,
      production: this.#config.production,
      bus: this.#connection.busKind,
      backlogSeries: [...this.#backlogSeries],
      sources: this.#all.filter(({ asked }) => asked).map((source) => source.state),
      known: {
        figures: figures.value,
        queues: queues.value?.queues,
        lanes: queues.value?.lanes,
        outbox: queues.value?.outbox,
        workers: roles.value?.workers,
        gateways: roles.value?.gateways,
        shards: shards.value,
        moves: moves.value,
        celebrities: celebrities.value,
        operations: operations.value,
        sampling: roles.value?.sampling,
        storage: storage.value,
        database: database.value,
        machine: machine.value,
        events: events.value,
      },
    });
  }

  close(): Promise<void> {
    return this.#connection.close();
  }

  async #ask(source: Source<unknown>, refresh: () => Promise<void>): Promise<void> {
    const { figures, queues, shards, moves } = this.#sources;
    const before = source.state;
    const movesBefore = moves.value?.length;
    await refresh();
    if (source === queues) this.#recordBacklog();
    // The last move has ended: shards are on other nodes now.
    if (source === moves && movesBefore && moves.value?.length === 0)
      void this.#ask(shards, () => shards.refreshNow());
    const after = source.state;
    if (source === figures && !before.error && after.error?.code === 'TIMED_OUT') this.#serversSilent = true;
    if (this.#connection.closed || (after.ageMs === before.ageMs && !after.error)) return;
    this.onChange();
  }

  /**
   * Finds out, while a source has timed out, whether the servers answer at all. A source that was
   * slow itself waits for its interval. If the servers were silent, every failed source is asked
   * again as soon as they answer. They count as silent when `figures`, the cheapest source, times
   * out, or when an empty statement does.
   */
  async #probe(): Promise<void> {
    if (this.#probing || this.#connection.closed) return;
    if (!this.#wanted([]).some(({ error }) => error?.code === 'TIMED_OUT')) return;
    this.#probing = true;
    const answers = await this.#serversAnswer();
    this.#probing = false;
    if (answers && this.#serversSilent) {
      this.#serversSilent = false;
      for (const source of this.#all) if (source.error) void this.#ask(source, () => source.refreshNow());
    } else this.#serversSilent = !answers;
  }

  async #serversAnswer(): Promise<boolean> {
    const servers = await this.#connection.get().catch(() => undefined);
    if (!servers) return false;
    return servers.db.ping().then(
      async () => (await servers.bus.health?.())?.ready !== false,
      () => false,
    );
  }

  #recordBacklog(): void {
    const { queues } = this.#sources;
    const step = Math.floor(Date.now() / STEP_MS);
    if (!queues.value || queues.error || step === this.#step) return;
    this.#step = step;
    this.#backlogSeries.push(queues.value.queues.reduce((sum, row) => sum + messagesIn(row), 0));
    if (this.#backlogSeries.length > MAX_STEPS) this.#backlogSeries.shift();
  }
}
