import { setTimeout as sleep } from 'node:timers/promises';
import type { Consumer } from '../bus/bus.ts';
import type { Database } from '../database/database.ts';
import { messageOf } from '../model/errors.ts';
import { LANES, type LaneName, type LaneState } from '../model/lanes.ts';
import { countRunning, REBUILD } from '../operations/run.ts';
import { announceLanes, LANES_CHANNEL, readLanes } from '../store/lanes.ts';
import { countWorkers } from '../store/processes.ts';
import type { Log } from '../telemetry/log.ts';
import { Coalesced } from '../util/coalesce.ts';

/**
 * Time for a paused lane to finish its messages in flight: longer than `DATABASE_WORK.batchMs`, the
 * time of one batch. The messages that are left are given back to the bus.
 */
const DRAIN_TIMEOUT_MS = 90_000;
/** Milliseconds until a consumer that could not be opened or stopped is tried again. */
const RETRY_MS = 1_000;

/** A worker's side of what operators do to lanes: `fanout pause`, `resume` and `throttle`. */
export interface Lanes {
  /** Rows a second that this worker may write; undefined: no limit. */
  rate(lane: LaneName): number | undefined;
  /** Adds a listener for any change of the lanes. */
  onChange(listener: () => void): void;
  /**
   * Consumes unless all of these lanes are paused. A pause takes no more messages, finishes those
   * in flight and requeues the rest, where other commands find them.
   */
  consume(lanes: readonly LaneName[], open: () => Promise<Consumer>): Promise<Consumer>;
}

export interface OpenLanes extends Lanes {
  /** Returns lanes that are paused and of which nothing is in flight here. */
  drained(): LaneName[];
  /** Reads the lanes from the database: a notification may have been lost. */
  refresh(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Opens a worker's view of the lanes. `onDrained` is called whenever the result of `drained` may
 * have changed. While the database is unavailable, lanes stay as they are.
 */
export async function openLanes(db: Database, log: Log, onDrained: () => void): Promise<OpenLanes> {
  const lanes = new WorkerLanes(db, log, onDrained);
  await lanes.open();
  return lanes;
}

class WorkerLanes implements OpenLanes {
  readonly #db: Database;
  readonly #log: Log;
  readonly #onDrained: () => void;
  readonly #reads = new Coalesced(() => this.#read());
  readonly #listeners: (() => void)[] = [];
  readonly #consumers: { readonly lanes: readonly LaneName[]; readonly consumer: LaneConsumer }[] = [];
  #states: readonly LaneState[] = [];
  #workers = 1;
  #rebuilds = 0;
  #close: () => Promise<void> = async () => {};

  constructor(db: Database, log: Log, onDrained: () => void) {
    this.#db = db;
    this.#log = log;
    this.#onDrained = onDrained;
  }

  async open(): Promise<void> {
    const refreshSoon = () => {
      this.refresh().catch((error) => this.#log.warn({ reason: messageOf(error) }, 'lanes not read'));
    };
    const listener = await this.#db.listen([LANES_CHANNEL], {
      onNotify: refreshSoon,
      onListening: refreshSoon,
    });
    this.#close = () => listener.close();
    try {
      await this.refresh();
      await announceLanes(this.#db);
    } catch (error) {
      await listener.close();
      throw error;
    }
  }

  rate(lane: LaneName): number | undefined {
    const throttled = this.#states.find((state) => state.lane === lane)?.throttled;
    // Running rebuilds share the rate of the bulk lane with the workers.
    const sharers = Math.max(1, this.#workers) + (lane === 'bulk' ? this.#rebuilds : 0);
    return throttled ? throttled.rowsPerSecond / sharers : undefined;
  }

  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }

  async consume(lanes: readonly LaneName[], open: () => Promise<Consumer>): Promise<Consumer> {
    const consumer = new LaneConsumer(() => this.#arePaused(lanes), open, this.#log, this.#onDrained);
    await consumer.start();
    this.#listeners.push(() => consumer.align());
    this.#consumers.push({ lanes, consumer });
    if (consumer.isDrained) this.#onDrained();
    return consumer;
  }

  drained(): LaneName[] {
    const isDrained = (lane: LaneName) =>
      this.#consumers.every(
        ({ lanes, consumer }) => !lanes.includes(lane) || !this.#arePaused(lanes) || consumer.isDrained,
      );
    return LANES.filter((lane) => this.#arePaused([lane]) && isDrained(lane));
  }

  refresh(): Promise<void> {
    return this.#reads.run();
  }

  close(): Promise<void> {
    return this.#close();
  }

  #arePaused(lanes: readonly LaneName[]): boolean {
    return lanes.every((lane) => this.#states.some((state) => state.lane === lane && state.paused));
  }

  async #read(): Promise<void> {
    [this.#states, this.#workers, this.#rebuilds] = await Promise.all([
      readLanes(this.#db),
      countWorkers(this.#db),
      countRunning(this.#db, REBUILD),
    ]);
    for (const listener of this.#listeners) listener();
  }
}

/** A consumer that is open unless its lanes are paused. */
class LaneConsumer implements Consumer {
  readonly #isPaused: () => boolean;
  readonly #open: () => Promise<Consumer>;
  readonly #log: Log;
  readonly #onDrained: () => void;
  #consumer: Consumer | undefined;
  #work: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(isPaused: () => boolean, open: () => Promise<Consumer>, log: Log, onDrained: () => void) {
    this.#isPaused = isPaused;
    this.#open = open;
    this.#log = log;
    this.#onDrained = onDrained;
  }

  get isDrained(): boolean {
    return this.#consumer === undefined;
  }

  start(): Promise<void> {
    return this.#align();
  }

  /** Opens or stops the consumer as the lanes are now. Retries while the bus is unavailable. */
  align(): void {
    this.#work = this.#work.then(async () => {
      while (!this.#stopped) {
        try {
          await this.#align();
          return;
        } catch (error) {
          this.#log.warn({ reason: messageOf(error) }, 'lane not resumed yet');
          await sleep(RETRY_MS);
        }
      }
    });
  }

  async stop(deadlineMs: number): Promise<void> {
    this.#stopped = true;
    const stopped = this.#work.then(() => this.#consumer?.stop(deadlineMs));
    // A pause may still wait for messages in flight, with a longer timeout.
    await Promise.race([stopped, sleep(deadlineMs, undefined, { ref: false })]);
  }

  async #align(): Promise<void> {
    if (this.#isPaused() === this.isDrained) return;
    if (this.#consumer) await this.#consumer.stop(DRAIN_TIMEOUT_MS);
    this.#consumer = this.#isPaused() ? undefined : await this.#open();
    this.#onDrained();
  }
}
