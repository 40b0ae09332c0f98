import fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { LoadedFeed } from '../../../../src/engine/cache/cache.ts';
import { openRedisCache } from '../../../../src/engine/cache/redis/cache.ts';
import { FEED_LIMIT } from '../../../../src/engine/model/feed.ts';
import { ROW_BYTES, writeId } from '../../../../src/engine/model/messages.ts';
import { silentLog } from '../../../../src/engine/telemetry/log.ts';
import { freshDatabase } from '../../../support/cluster.ts';
import { findServer } from '../../../support/server.ts';

const url = await findServer('redis');

const AUTHORS = [1, 2, 3];
const USER = 10;

/** Returns the author of a post, which its id determines. */
const authorOf = (postId: number): number => AUTHORS[postId % AUTHORS.length]!;

/** Rows in COPY format. */
function rowsOf(userId: number, postIds: readonly number[]): Buffer {
  const rows = Buffer.alloc(ROW_BYTES * postIds.length);
  for (const [i, postId] of postIds.entries()) {
    writeId(rows, ROW_BYTES * i + 6, userId);
    writeId(rows, ROW_BYTES * i + 18, postId);
    writeId(rows, ROW_BYTES * i + 30, authorOf(postId));
  }
  return rows;
}

/** The model of the table, which a load reads. */
class Table {
  readonly posts = new Set<number>();
  followees = new Set(AUTHORS);
  floor = 0;

  load(): LoadedFeed {
    const visible = [...this.posts].filter((id) => id > this.floor && this.followees.has(authorOf(id)));
    const newest = visible.sort((a, b) => b - a).slice(0, FEED_LIMIT);
    return {
      entries: newest.map((postId) => ({ postId, authorId: authorOf(postId) })),
      completeAbove: newest.length === FEED_LIMIT ? newest.at(-1)! - 1 : this.floor,
      floor: this.floor,
      followees: [...this.followees].sort((a, b) => a - b),
      celebrities: [],
      own: { authorId: USER, postIds: [], completeAbove: 0 },
    };
  }
}

async function open() {
  const { db } = await freshDatabase();
  const cache = await openRedisCache(url!, db, silentLog);
  onTestFinished(() => cache.close());
  return cache;
}

const post = fc.integer({ min: 1, max: 60 });
const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constant('push' as const),
      posts: fc.array(post, { minLength: 1, maxLength: 5 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('begin' as const) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('end' as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('follow' as const), author: fc.constantFrom(...AUTHORS) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('floor' as const), floor: fc.integer({ min: 0, max: 40 }) }),
  },
);

describe.skipIf(!url)('with a Redis', () => {
  test('whatever is pushed, loaded and forgotten at the same time, a feed that is held is the table', async () => {
    const cache = await open();
    let user = USER;
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 40 }), async (steps) => {
        user += 1;
        const table = new Table();
        let load: { read: () => void; refill: Promise<unknown> } | undefined;
        const end = async () => {
          load?.read();
          await load?.refill;
          load = undefined;
        };
        for (const one of steps) {
          if (one.do === 'push') {
            // Committed, then pushed. Some authors are no longer followed, some rows are repeated.
            for (const id of one.posts) table.posts.add(id);
            await cache.push([rowsOf(user, one.posts)]);
          } else if (one.do === 'begin' && !load) {
            const { promise, resolve } = Promise.withResolvers<LoadedFeed>();
            const begun = Promise.withResolvers<void>();
            const refill = cache.refill(user, () => {
              // The statement sees the rows committed at its begin, and answers later.
              const seen = table.load();
              begun.resolve();
              return promise.then(() => seen);
            });
            await Promise.race([begun.promise, refill]);
            load = { read: () => resolve(table.load()), refill };
          } else if (one.do === 'end') {
            await end();
          } else if (one.do === 'follow') {
            if (!table.followees.delete(one.author)) table.followees.add(one.author);
            await cache.forget([user]);
          } else if (one.do === 'floor') {
            // A trim is not reported to the cache.
            table.floor = Math.max(table.floor, one.floor);
          }
          const cached = await cache.get(user);
          if (!cached) continue;
          const above = table.load().entries.filter((entry) => entry.postId > cached.completeAbove);
          const shown = cached.entries.filter(
            (entry) => entry.postId > Math.max(cached.completeAbove, table.floor),
          );
          expect(shown).toEqual(above);
          expect(new Set(cached.entries.map((entry) => entry.postId)).size).toBe(cached.entries.length);
        }
        await end();
        await cache.refill(user, async () => table.load());
        expect(await cache.get(user)).toBeDefined();
      }),
      { numRuns: 300 },
    );
  });

  test('a ring is bounded, and says from where on it is complete', async () => {
    const cache = await open();
    const table = new Table();
    await cache.refill(USER, async () => table.load());
    const all = Array.from({ length: 3_000 }, (_, i) => i + 1);
    for (let from = 0; from < all.length; from += 100)
      await cache.push([rowsOf(USER, all.slice(from, from + 100))]);
    const cached = (await cache.get(USER))!;
    expect(cached.entries.map((entry) => entry.postId)).toEqual(all.slice(-FEED_LIMIT).reverse());
    expect(cached.completeAbove).toBe(all.at(-FEED_LIMIT - 1));
    // A post below the bound is not added.
    await cache.push([rowsOf(USER, [5])]);
    expect((await cache.get(USER))!.entries).toHaveLength(FEED_LIMIT);
  });
});
