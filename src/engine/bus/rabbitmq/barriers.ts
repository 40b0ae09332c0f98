import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Database } from '../../database/database.ts';
import { isFeedctlError } from '../../model/errors.ts';
import type { Barrier, BarrierQueue } from '../bus.ts';
import type { AdminChannel } from './adminChannel.ts';
import type { Publisher } from './publisher.ts';
import { partitionsOf } from './queueNames.ts';
import { BARRIER_TYPE } from './reader.ts';
import { BARRIER_PASSED, INSERT_BARRIER, PASS_BARRIERS } from './sql.ts';

/** Nothing was in the queues. */
const PASSED = 0;
const QUEUE_FULL_RETRY_MS = 200;
const CONSUMED_MS = 1_000;

/**
 * A mark is a small message, a marker, at the end of each partition. Whoever consumes the partition notes in the
 * database that it has come to the marker and that all it had before is settled. So any process may ask, at any
 * time, and a crash takes nothing away: a marker that nobody has answered for is delivered again, in its place.
 */
export class Barriers {
  readonly #db: Database;
  readonly #adminChannel: AdminChannel;
  readonly #publisher: Publisher;
  readonly #declared: () => Promise<number>;
  readonly #consumedHere: (queue: string) => boolean;
  /** When queues were last seen to have consumers: a marker will be met there. */
  readonly #consumedAt = new Map<string, number>();
  readonly #placing = new Map<string, { current: Promise<unknown>; next: Promise<Barrier> | undefined }>();

  constructor(context: {
    db: Database;
    adminChannel: AdminChannel;
    publisher: Publisher;
    /** Partitions that exist, read afresh: one that others publish to by now must not be missed. */
    declared: () => Promise<number>;
    consumedHere: (queue: string) => boolean;
  }) {
    this.#db = context.db;
    this.#adminChannel = context.adminChannel;
    this.#publisher = context.publisher;
    this.#declared = context.declared;
    this.#consumedHere = context.consumedHere;
  }

  /** Marks asked for while one is being made share the one after it. */
  place(queues: readonly BarrierQueue[]): Promise<Barrier> {
    const key = queues.join(' ');
    const making = this.#placing.get(key) ?? { current: Promise.resolve(), next: undefined };
    this.#placing.set(key, making);
    making.next ??= making.current
      .catch(() => {})
      .then(() => {
        making.next = undefined;
        const made = this.#insert(queues);
        making.current = made;
        return made;
      });
    return making.next;
  }

  async hasPassed({ position }: Barrier): Promise<boolean> {
    if (position === PASSED) return true;
    const { rows } = await this.#db.query<{ passed: boolean }>(BARRIER_PASSED, [position]);
    return rows[0]!.passed;
  }

  async pass(name: string, marks: readonly number[]): Promise<void> {
    await this.#db.query(PASS_BARRIERS, [name, marks]);
  }

  async #insert(queues: readonly BarrierQueue[]): Promise<Barrier> {
    const declared = await this.#declared();
    const names: string[] = [];
    for (const queue of queues) names.push(...(await this.#notEmpty(queue, partitionsOf(queue, declared))));
    if (names.length === 0) return { queues, position: PASSED };
    const id = randomInt(1, 2 ** 48 - 1);
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
        // A partition that has been given up meanwhile was empty.
        for (const { key } of await this.#publisher.publish(markers)) await this.pass(key, [id]);
        return { queues, position: id };
      } catch (error) {
        if (!isFeedctlError(error, 'QUEUE_FULL')) throw error;
        await sleep(QUEUE_FULL_RETRY_MS);
      }
    }
  }

  /** Where nobody consumes, nobody holds a message or would answer for a marker: an empty queue needs none. */
  async #notEmpty(queue: string, names: readonly string[]): Promise<readonly string[]> {
    if (this.#consumedHere(queue) || Date.now() - (this.#consumedAt.get(queue) ?? 0) < CONSUMED_MS)
      return names;
    const states = await this.#adminChannel.states(names);
    const left = names.filter((name) => {
      const state = states.get(name);
      return state && (state.ready > 0 || state.consumers > 0);
    });
    if (names.every((name) => (states.get(name)?.consumers ?? 0) > 0))
      this.#consumedAt.set(queue, Date.now());
    return left;
  }
}
