import type { Database } from './database.ts';

/** The table that a benchmark's limit is written to: as `feed_items`, and empty. */
export const RAW_TABLE = 'bench_raw';

const TABLES = 'users, posts, follows, followers, feed_items, events, celebrities, run_batches';

export async function emptyAll(db: Database): Promise<void> {
  await db.query(`drop table if exists ${RAW_TABLE}`);
  await db.query(`truncate ${TABLES}`);
}

/** Every run starts with an empty table and nothing left to write back. */
export async function emptyTable(db: Database, table: 'feed_items' | typeof RAW_TABLE): Promise<void> {
  if (table === RAW_TABLE) {
    await db.query(`drop table if exists ${RAW_TABLE}`);
    await db.query(`create table ${RAW_TABLE} (like feed_items including all)`);
  } else {
    await db.query(`truncate ${table}`);
  }
  await db.query('vacuum bus.messages');
  // Only a superuser may ask for one; without it the runs share what is left to write back.
  await db.query('checkpoint').catch(() => {});
}

/** After the rows of a benchmark were made: plans for what is there, and no event left to the sweeper. */
export async function settleAfterLoad(db: Database): Promise<void> {
  await db.query('update events set dispatched_at = now() where dispatched_at is null');
  await db.query('vacuum analyze events, posts, followers, follows, users');
}
