import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Database } from '../../database/database.ts';
import { isFeedctlError } from '../../model/errors.ts';
import { Coalesced } from '../../util/coalesce.ts';
import type { Barrier, BarrierQueue } from '../bus.ts';
import type { AdminChannel } from './adminChannel.ts';
import type { Publisher } from './publisher.ts';
import { partitionsOf } from './queueNames.ts';
import { BARRIER_TYPE } from './reader.ts';
import { BARRIER_PASSED, INSERT_BARRIER, PASS_BARRIERS } from './sql.ts';

/** Position of a barrier in empty queues. */
const PASSED = 0;
const QUEUE_FULL_RETRY_MS = 200;
/** Time for which a queue that was seen with consumers counts as consumed. */
const CONSUMED_MS = 1_000;

/**
 * Barriers of RabbitMQ. A barrier is a small message, a marker, at the end of each partition. The
 * consumer of a partition records in the database that it has reached the marker and that every
 * message before it is settled. So any process may ask at any time. A crash loses nothing: the broker
 * delivers an unacked marker again, in its place.
 */
export class Barriers {
  readonly #db: Database;
  readonly #adminChannel: AdminChannel;
  readonly #publisher: Publisher;
  readonly #declared: () => Promise<number>;
  readonly #lineage: () => Promise<string>;
  readonly #consumedHere: (queue: string) => boolean;
  /**
   * Times at which queues were last seen with consumers in every partition, which will reach a marker. By
   * the monotonic clock.
   */
  readonly #consumedAt = new Map<string, number>();
  /** Barriers that queues have reached, and that are not recorded yet. */
  #passed: { readonly name: string; readonly id: number }[] = [];
  readonly #recording = new Coalesced(() => this.#record());
  readonly #placing = new Map<string, Coalesced<Barrier>>();

  constructor(context: {
    db: Database;
    adminChannel: AdminChannel;
    publisher: Publisher;
    /** Reads the number of partitions: it includes those that other processes have added. */
    declared: () => Promise<number>;
    consumedHere: (queue: string) => boolean;
    /** The present history of the database. */
    lineage: () => Promise<string>;
  }) {
    this.#db = context.db;
    this.#adminChannel = context.adminChannel;
    this.#publisher = context.publisher;
    this.#declared = context.declared;
    this.#consumedHere = context.consumedHere;
    this.#lineage = context.lineage;
  }

  /** Places a barrier. Calls that wait for one in the same queues share it. */
  place(queues: readonly BarrierQueue[]): Promise<Barrier> {
    const key = queues.join(' ');
    const placing = this.#placing.get(key) ?? new Coalesced(() => this.#insert(queues));
    this.#placing.set(key, placing);
    return placing.run();
  }

  /**
   * A barrier of an earlier history has passed: the database may have lost that it did. Messages before it
   * are of that history too, and are written only as far as they are still true.
   */
  async hasPassed({ position, lineage }: Barrier): Promise<boolean> {
    if (position === PASSED) return true;
    if (lineage !== undefined && lineage !== (await this.#lineage())) return true;
    const { rows } = await this.#db.query<{ passed: boolean }>(BARRIER_PASSED, [position]);
    return rows[0]!.passed;
  }

  /** Records that a queue of the broker has reached barriers. Partitions reach the same one at about once. */
  pass(name: string, ids: readonly number[]): Promise<void> {
    this.#passed.push(...ids.map((id) => ({ name, id })));
    return this.#recording.run();
  }

  async #record(): Promise<void> {
    const passed = this.#passed;
    this.#passed = [];
    await this.#db.query(PASS_BARRIERS, [passed.map(({ name }) => name), passed.map(({ id }) => id)]);
  }

  async #insert(queues: readonly BarrierQueue[]): Promise<Barrier> {
    const declared = await this.#declared();
    const names: string[] = [];
    for (const queue of queues) names.push(...(await this.#notEmpty(queue, partitionsOf(queue, declared))));
    if (names.length === 0) return { queues, position: PASSED };
    const id = randomInt(1, 2 ** 48 - 1);
    const lineage = await this.#lineage();
    await this.#db.query(INSERT_BARRIER, [id, names]);
    const markers = names.map((name) => ({
      queue: name,
      exchange: '',
      key: name,
      body: Buffer.alloc(0),
      type: BARRIER_TYPE,
      correlationId: String(id),
    }));
    for (;;) {
      try {
        // Partitions that were deleted meanwhile were empty.
        for (const { key } of await this.#publisher.publish(markers)) await this.pass(key, [id]);
        return { queues, position: id, lineage };
      } catch (error) {
        if (!isFeedctlError(error, 'QUEUE_FULL')) throw error;
        await sleep(QUEUE_FULL_RETRY_MS);
      }
    }
  }

  /**
   * Returns the partitions that need a marker. One that is empty and has no consumer needs none: no
   * message of it is in flight, and no consumer would ack the marker.
   */
  async #notEmpty(queue: string, names: readonly string[]): Promise<readonly string[]> {
    if (
      this.#consumedHere(queue) ||
      performance.now() - (this.#consumedAt.get(queue) ?? Number.NEGATIVE_INFINITY) < CONSUMED_MS
    )
      return names;
    const states = await this.#adminChannel.states(names);
    const left = names.filter((name) => {
      const state = states.get(name);
      return state && (state.ready > 0 || state.consumers > 0);
    });
    if (names.every((name) => (states.get(name)?.consumers ?? 0) > 0))
      this.#consumedAt.set(queue, performance.now());
    return left;
  }
}
