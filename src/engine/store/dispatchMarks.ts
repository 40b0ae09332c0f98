import type { Database } from '../database/database.ts';
import { FeedctlError } from '../model/errors.ts';
import type { EventRef } from '../model/event.ts';
import { Coalesced } from '../util/coalesce.ts';
import { markDispatched } from './events.ts';

/** Events of a shard that wait at most. The sweeper publishes the others again. */
const MAX_WAITING = 1_000;

/** The events of a shard that wait for the next statement, and the statements one after the other. */
interface Shard {
  readonly waiting: EventRef[];
  readonly runs: Coalesced<void>;
}

/**
 * Marks the events of concurrent requests together: while a shard's statement runs, events wait for the
 * next one. A statement and a commit for each event would cost the database as much as the post itself.
 * A shard that does not answer holds up no other shard.
 */
export class DispatchMarks {
  readonly #db: Database;
  readonly #shards = new Map<number, Shard>();

  constructor(db: Database) {
    this.#db = db;
  }

  /** Resolves when `dispatched_at` of these events is committed. Throws OVERLOADED if too many wait. */
  async mark(events: readonly EventRef[]): Promise<void> {
    const sharding = await this.#db.sharding();
    const groups = sharding.group(events, (event) => event.aggregateId);
    const marked = groups.map(async (group) => {
      const { waiting, runs } = this.#shard(sharding.shardOfId(group[0]!.aggregateId));
      if (waiting.length >= MAX_WAITING)
        throw new FeedctlError('OVERLOADED', `${waiting.length} events wait to be marked already`);
      waiting.push(...group);
      return runs.run();
    });
    await Promise.all(marked);
  }

  #shard(index: number): Shard {
    let shard = this.#shards.get(index);
    if (!shard) {
      const waiting: EventRef[] = [];
      shard = { waiting, runs: new Coalesced(() => markDispatched(this.#db, waiting.splice(0))) };
      this.#shards.set(index, shard);
    }
    return shard;
  }
}
