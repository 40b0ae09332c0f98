import { setTimeout as sleep } from 'node:timers/promises';
import type { Consumer } from '../bus/bus.ts';
import type { Database } from '../database/database.ts';
import { messageOf } from '../model/errors.ts';
import { LANES, type LaneName, type LaneState } from '../model/lanes.ts';
import { countRunning, REBUILD } from '../operations/run.ts';
import { announceLanes, LANES_CHANNEL, readLanes } from '../store/lanes.ts';
import { countWorkers } from '../store/processes.ts';
import type { Log } from '../telemetry/log.ts';

/** What a paused lane has in hand is finished: longer than a batch may take. */
const FINISH_MS = 90_000;
const RETRY_MS = 1_000;

/** A worker's side of what operators do to lanes: `fanout pause`, `resume` and `throttle`. */
export interface Lanes {
  /** Rows a second that this worker may write; undefined: no limit. */
  rate(lane: LaneName): number | undefined;
  /** Calls back whenever something about the lanes has changed. */
  onChange(listener: () => void): void;
  /**
   * Consumes unless all of these lanes are paused: when they are, no more is taken, what is in hand is finished and the rest
   * goes back to the queue, where other commands find it.
   */
  consume(lanes: readonly LaneName[], open: () => Promise<Consumer>): Promise<Consumer>;
}

export interface OpenLanes extends Lanes {
  /** Lanes that are paused and of which nothing is in hand here any more. */
  standing(): LaneName[];
  /** Looks at the database: a notification may have been lost. */
  refresh(): Promise<void>;
  close(): Promise<void>;
}

/** `onStanding`: told whenever `standing` may have changed. While the database is away, lanes stay as they are. */
export async function openLanes(db: Database, log: Log, onStanding: () => void): Promise<OpenLanes> {
  let states: readonly LaneState[] = [];
  let workers = 1;
  let rebuilds = 0;
  const listeners: (() => void)[] = [];
  const consumers: { readonly lanes: readonly LaneName[]; readonly consumer: LaneConsumer }[] = [];
  const isPaused = (lane: LaneName) => states.some((state) => state.lane === lane && state.paused);

  const read = async () => {
    [states, workers, rebuilds] = await Promise.all([
      readLanes(db),
      countWorkers(db),
      countRunning(db, REBUILD),
    ]);
    for (const listener of listeners) listener();
  };
  let reading: Promise<void> = Promise.resolve();
  let next: Promise<void> | undefined;
  /** Whoever asks while it is being read shares the look after that. */
  const refresh = (): Promise<void> => {
    next ??= reading
      .catch(() => {})
      .then(() => {
        next = undefined;
        reading = read();
        return reading;
      });
    return next;
  };
  const refreshSoon = () => {
    refresh().catch((error) => log.warn({ reason: messageOf(error) }, 'lanes not read'));
  };

  const listener = await db.listen([LANES_CHANNEL], { onNotify: refreshSoon, onListening: refreshSoon });
  try {
    await refresh();
    await announceLanes(db);
  } catch (error) {
    await listener.close();
    throw error;
  }
  return {
    rate(lane) {
      const throttled = states.find((state) => state.lane === lane)?.throttled;
      const sharers = Math.max(1, workers) + (lane === 'bulk' ? rebuilds : 0);
      return throttled ? throttled.rowsPerSecond / sharers : undefined;
    },
    onChange(listener) {
      listeners.push(listener);
    },
    async consume(lanes, open) {
      const consumer = new LaneConsumer(() => lanes.every(isPaused), open, log, onStanding);
      await consumer.start();
      listeners.push(() => consumer.align());
      consumers.push({ lanes, consumer });
      if (consumer.standsStill) onStanding();
      return consumer;
    },
    standing: () =>
      LANES.filter(
        (lane) =>
          isPaused(lane) &&
          consumers.every(
            ({ lanes, consumer }) => !lanes.includes(lane) || !lanes.every(isPaused) || consumer.standsStill,
          ),
      ),
    refresh,
    close: () => listener.close(),
  };
}

/** A consumer that is there unless its lanes are paused. */
class LaneConsumer implements Consumer {
  readonly #isPaused: () => boolean;
  readonly #open: () => Promise<Consumer>;
  readonly #log: Log;
  readonly #onStanding: () => void;
  #consumer: Consumer | undefined;
  #work: Promise<void> = Promise.resolve();
  #stopped = false;

  constructor(isPaused: () => boolean, open: () => Promise<Consumer>, log: Log, onStanding: () => void) {
    this.#isPaused = isPaused;
    this.#open = open;
    this.#log = log;
    this.#onStanding = onStanding;
  }

  get standsStill(): boolean {
    return this.#consumer === undefined;
  }

  start(): Promise<void> {
    return this.#align();
  }

  /** Becomes what the lanes are now; tried again where the bus cannot be reached. */
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
    // A pause may still be waiting for what is in hand, and has more time.
    await Promise.race([stopped, sleep(deadlineMs, undefined, { ref: false })]);
  }

  async #align(): Promise<void> {
    if (this.#isPaused() === this.standsStill) return;
    if (this.#consumer) await this.#consumer.stop(FINISH_MS);
    this.#consumer = this.#isPaused() ? undefined : await this.#open();
    this.#onStanding();
  }
}
