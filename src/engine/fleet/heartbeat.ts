import { hostname } from 'node:os';
import type { Bus } from '../bus/bus.ts';
import type { Database } from '../database/database.ts';
import type { LaneName } from '../model/lanes.ts';
import type { DatabaseClock } from '../store/databaseClock.ts';
import { unregisterWorker, type WorkerIdentity, workerHeartbeat } from '../store/processes.ts';
import { Coalesced } from '../util/coalesce.ts';
import type { Readiness } from './readiness.ts';

/**
 * Keeps the row of one worker: it is alive, which queues it reads, which lanes it has paused,
 * whether its servers and its clock are usable.
 */
export class WorkerHeartbeats {
  readonly #db: Database;
  readonly #bus: Bus;
  readonly #clock: DatabaseClock;
  readonly #readiness: Pick<Readiness, 'differs'> | undefined;
  readonly #identity: WorkerIdentity;
  /** One at a time: the last one sent is the latest state. */
  readonly #sends = new Coalesced(() => this.#send());
  /** As the last one reported. */
  #live: boolean | undefined;
  /** Returns lanes that are paused and of which the worker has nothing in flight. */
  pausedLanes: () => readonly LaneName[] = () => [];

  constructor(
    {
      db,
      bus,
      clock,
      readiness,
    }: {
      db: Database;
      bus: Bus;
      clock: DatabaseClock;
      readiness?: Pick<Readiness, 'differs'> | undefined;
    },
    identity: Pick<WorkerIdentity, 'id' | 'version' | 'drainable'>,
  ) {
    this.#db = db;
    this.#bus = bus;
    this.#clock = clock;
    this.#readiness = readiness;
    this.#identity = { ...identity, host: hostname(), pid: process.pid, startedAt: new Date() };
  }

  /** Resolves when the state at the time of this call, or a later one, is committed. */
  send(): Promise<void> {
    return this.#sends.run();
  }

  /** Sends a heartbeat if the broker or the clock has become usable or unusable since the last one. */
  async checkLive(): Promise<void> {
    if ((await this.#isLive()) !== this.#live) await this.send();
  }

  unregister(): Promise<void> {
    return unregisterWorker(this.#db, this.#identity.id);
  }

  async #send(): Promise<void> {
    const reads = this.#bus.reads?.() ?? null;
    const paused = this.pausedLanes();
    const live = await this.#isLive();
    this.#live = live;
    await this.#clock.measure(
      () => workerHeartbeat(this.#db, this.#identity, { reads, paused, live }),
      ({ now }) => now,
    );
  }

  /** The queue in the database has no broker: it is always ready. */
  async #isLive(): Promise<boolean> {
    if (this.#readiness?.differs) return false;
    return !this.#clock.isOff() && ((await this.#bus.health?.())?.ready ?? true);
  }
}
