import type { Database } from '../../src/engine/database/database.ts';
import { addFeedPartition, feedPartitions } from '../../src/engine/database/feedPartitions.ts';
import { firstIdAt } from '../../src/engine/model/ids.ts';

/** Leaves the first partition and the last one, so that a test decides where others begin and end. */
export async function twoFeedPartitions(db: Database): Promise<void> {
  const partitions = await feedPartitions(db);
  const middle = partitions.slice(1, -1);
  if (middle.length === 0) return;
  await db.transaction(async (session) => {
    await session.query(`alter table feed_items detach partition feed_items_after`);
    for (const { name } of middle) await session.query(`drop table ${name}`);
    await session.query(
      `alter table feed_items attach partition feed_items_after for values from (${middle[0]!.from}) to (maxvalue)`,
    );
  });
}

/** Ends the partition of the newest posts now: its posts can be retired from now on. */
export async function cutFeedPartition(db: Database, name: string): Promise<void> {
  const from = (await feedPartitions(db)).at(-1)!.from;
  await addFeedPartition(db, { name, from, to: firstIdAt(Date.now()) });
}
