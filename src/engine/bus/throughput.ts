import { randomUUID } from 'node:crypto';
import type { Queryable } from '../database/database.ts';
import type { Throughput } from './bus.ts';

const REPORT_INTERVAL_MS = 1_000;

/** In: id of a member, its counts. Deletes members without a report for a minute. */
const UPSERT = `
  with expired as (
    delete from bus.members where seen_at < clock_timestamp() - interval '1 minute' and id <> $1)
  insert into bus.members (id, queues, hands, settled, seen_at)
  values ($1, '{}', '{}', $2, clock_timestamp())
  on conflict (id) do update set settled = excluded.settled, seen_at = excluded.seen_at`;

const READ = `
  select id as member, key as queue, value::bigint as count,
         extract(epoch from seen_at)::float8 * 1000 as "atMs"
  from bus.members cross join jsonb_each_text(settled)`;

export async function readThroughput(db: Queryable): Promise<Throughput[]> {
  return (await db.query<Throughput>(READ)).rows;
}

/** Counts the messages that this process settles, and reports them once a second while there are any. */
export class ThroughputReporter {
  readonly #db: Queryable;
  readonly #id = randomUUID();
  readonly #counts: Record<string, number> = {};
  #timer: NodeJS.Timeout | undefined;
  #reporting: Promise<unknown> = Promise.resolve();

  constructor(db: Queryable) {
    this.#db = db;
  }

  add(queue: string, count: number): void {
    this.#counts[queue] = (this.#counts[queue] ?? 0) + count;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      // The next report includes a failed one.
      this.#reporting = this.#db.query(UPSERT, [this.#id, JSON.stringify(this.#counts)]).catch(() => {});
    }, REPORT_INTERVAL_MS);
  }

  async close(): Promise<void> {
    clearTimeout(this.#timer);
    await this.#reporting;
  }
}
