import { hostname } from 'node:os';
import type { Bus } from '../bus/bus.ts';
import type { Database } from '../database/database.ts';
import type { LaneName } from '../model/lanes.ts';
import { unregisterWorker, type WorkerIdentity, workerHeartbeat } from '../store/processes.ts';
import { Coalesced } from '../util/coalesce.ts';

/**
 * Keeps the row of one worker: it is alive, which queues it reads, which lanes it has paused,
 * broker readiness.
 */
export class WorkerHeartbeats {
  readonly #db: Database;
  readonly #bus: Bus;
  readonly #identity: WorkerIdentity;
  /** One at a time: the last one sent is the latest state. */
  readonly #sends = new Coalesced(() => this.#send());
  #brokerReady: boolean | undefined;
  /** Returns lanes that are paused and of which the worker has nothing in flight. */
  pausedLanes: () => readonly LaneName[] = () => [];

  constructor(db: Database, bus: Bus, identity: Pick<WorkerIdentity, 'id' | 'version' | 'drainable'>) {
    this.#db = db;
    this.#bus = bus;
    this.#identity = { ...identity, host: hostname(), pid: process.pid, startedAt: new Date() };
  }

  /** Resolves when the state at the time of this call, or a later one, is committed. */
  send(): Promise<void> {
    return this.#sends.run();
  }

  /** Sends a heartbeat if the broker has become ready or unavailable since the last one. */
  async checkBroker(): Promise<void> {
    if ((await this.#isBrokerReady()) !== this.#brokerReady) await this.send();
  }

  unregister(): Promise<void> {
    return unregisterWorker(this.#db, this.#identity.id);
  }

  async #send(): Promise<void> {
    const reads = this.#bus.reads?.() ?? null;
    const paused = this.pausedLanes();
    this.#brokerReady = await this.#isBrokerReady();
    await workerHeartbeat(this.#db, this.#identity, { reads, paused, live: this.#brokerReady });
  }

  /** The queue in the database has no broker: it is always ready. */
  async #isBrokerReady(): Promise<boolean> {
    return (await this.#bus.health?.())?.ready ?? true;
  }
}
