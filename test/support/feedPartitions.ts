import type { Database } from '../../src/engine/database/database.ts';
import { addFeedPartition, dividing, feedPartitions } from '../../src/engine/database/feedPartitions.ts';
import { type LockWait, withShortLocks } from '../../src/engine/database/shortLocks.ts';
import { firstIdAt } from '../../src/engine/model/ids.ts';

/** Partition of the newest posts. */
const NOW = 'feed_items_now';
const FAR = firstIdAt(Date.UTC(2060, 0, 1));

/** Leaves one partition for all posts from now on, and the first one. Returns where it begins. */
export async function wholeFeedPartition(db: Database): Promise<number> {
  const partitions = await feedPartitions(db);
  const middle = partitions.slice(1, -1);
  const from = partitions[1]!.from;
  if (middle.length > 0)
    await db.transaction(async (session) => {
      await session.query('alter table feed_items detach partition feed_items_after');
      for (const { name } of middle) await session.query(`drop table ${name}`);
      await session.query(
        `alter table feed_items attach partition feed_items_after for values from (${from}) to (maxvalue)`,
      );
    });
  return from;
}

/**
 * Leaves one partition for all posts from now on, which `cutFeedPartition` divides. Two partitions of a far
 * time keep workers from making others meanwhile.
 */
export async function plainFeedPartitions(db: Database): Promise<void> {
  const from = await wholeFeedPartition(db);
  await addFeedPartition(db, { name: NOW, from, to: FAR });
  await addFeedPartition(db, { name: 'feed_items_far', from: FAR, to: FAR + 1 });
  await addFeedPartition(db, { name: 'feed_items_farther', from: FAR + 1, to: FAR + 2 });
}

/** Ends the partition of the newest posts now: its posts can be retired from now on. Returns its end. */
export async function cutFeedPartition(db: Database, name: string, wait?: LockWait): Promise<number> {
  const whole = (await feedPartitions(db)).find((partition) => partition.name === NOW)!;
  const cut = firstIdAt(Date.now());
  await withShortLocks(
    db,
    (limit) =>
      db.transaction(async (session) => {
        await limit(session, 'local');
        for (const statement of dividing(whole, { name, cut })) await session.query(statement);
      }),
    wait,
  );
  return cut;
}
