import { isDeepStrictEqual } from 'node:util';
import type { FeedCache } from '../../src/engine/cache/cache.ts';
import { verifyVariant } from '../../src/engine/feed/verify/variants.ts';
import type { Engine } from './engine.ts';
import type { Lane } from './lane.ts';
import type { Model } from './model.ts';
import type { Random } from './random.ts';

/** With nothing under way: every feed, page by page, is the model's, and `verify` finds nothing. Throws where not. */
export async function compareFeedsWithModel(
  lane: Lane,
  engine: Engine,
  model: Model,
  users: readonly number[],
  random: Random,
): Promise<void> {
  const { db, cache } = lane;
  const wholeFeed = async (userId: number, way: FeedCache | undefined): Promise<string[]> => {
    const limit = 1 + random.below(5);
    const read: string[] = [];
    for (let cursor: string | null | undefined; cursor !== null; ) {
      const query = { limit, ...(cursor !== undefined && { cursor }) };
      const page = await engine.readFeed(db, userId, query, way);
      for (const item of page.items) read.push(`${item.postId} ${item.body}`);
      cursor = page.nextCursor;
    }
    return read;
  };
  await lane.heard();
  for (const userId of users) {
    const expected = model.feed(userId).map((post) => `${post.id} ${post.text}`);
    for (const way of [undefined, cache]) {
      const read = await wholeFeed(userId, way);
      if (isDeepStrictEqual(read, expected)) continue;
      throw new Error(
        `the feed of ${userId} (${way ? 'cache' : 'table'}) is [${read.join(', ')}], expected [${expected.join(', ')}]`,
      );
    }
  }
  const [after, last] = [Math.min(...users) - 1, Math.max(...users)];
  const variant = verifyVariant(await db.sharding());
  const asymmetric = await variant.asymmetricPairs(db, after, last);
  const faults = await variant.compareFeeds(db, after, last, asymmetric);
  if (faults.length > 0) throw new Error(`verify finds ${JSON.stringify(faults)}`);
  if (asymmetric.length > 0) throw new Error(`verify finds ${asymmetric.length} asymmetric pairs`);
  const { rows } = await db.query<{ id: number; count: number }>(
    'select id, follower_count as count from users where id = any($1)',
    [users],
  );
  for (const { id, count } of rows) {
    const followers = model.followers(id, users);
    if (followers !== count) throw new Error(`user ${id} has ${followers} followers, counted are ${count}`);
  }
}
