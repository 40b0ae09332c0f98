import fc from 'fast-check';
import { expect, test, vi } from 'vitest';
import { notifiedChanges } from '../../src/engine/cache/invalidation.ts';
import type { Database, Store } from '../../src/engine/database/database.ts';
import { silentNotifier } from '../../src/engine/live/notifier.ts';
import { backfillFollowers, removeAuthorItems, setPushState } from '../../src/engine/store/celebrities.ts';
import { backfillPair } from '../../src/engine/store/feeds.ts';
import { copyPairState, postsSinceFollow, withPairLock } from '../../src/engine/store/follows.ts';
import { getUser } from '../../src/engine/store/users.ts';
import { type Engine, engine } from './engine.ts';
import { runHistory } from './history.ts';
import { openLane } from './lane.ts';
import { histories } from './operations.ts';

vi.mock('node:timers/promises', async (original) => {
  const real = await original<typeof import('node:timers/promises')>();
  const { sleepOf } = await import('./simulatedTimers.ts');
  return { ...real, setTimeout: sleepOf(real.setTimeout) };
});

const SEED = 20_260_101;
/** Every bug below is found within a tenth of this. */
const HISTORIES = 1_000;

/** Runs the property on an engine with a bug. Returns the failure of the first history that finds it. */
async function whatFails(planted: Partial<Engine>, among = histories): Promise<string> {
  const lane = await openLane();
  const result = await fc.check(
    fc.asyncProperty(among, async (history) => {
      await runHistory(lane, history, { ...engine, ...planted });
    }),
    { seed: SEED, numRuns: HISTORIES, endOnFailure: true },
  );
  return result.failed ? String(result.errorInstance) : `passed ${result.numRuns} histories`;
}

/** Returns the statements with a part of one of them replaced. */
const mutated = (db: Store, part: RegExp, replacement: string): Store => ({
  sharding: () => db.sharding(),
  query: (text, values) => db.query(text.replace(part, replacement), values),
});

async function followersOf(db: Database, authorId: number): Promise<number[]> {
  const { rows } = await db.query<{ id: number }>(
    'select follower_id as id from followers where followee_id = $1',
    [authorId],
  );
  return rows.map((row) => row.id);
}

test('the join with the follows left out of the read: strangers are shown', async () => {
  // The cache loads by a join, and the page of the table looks each follow up.
  const pair = 'f\\.follower_id = \\$1 and f\\.followee_id = i\\.author_id';
  const join = new RegExp(`join follows f on ${pair}|and \\(select true from follows f where ${pair}\\)`);
  const why = await whatFails({
    readFeed: (db, userId, query, cache) => engine.readFeed(mutated(db, join, ''), userId, query, cache),
  });
  expect(why).toMatch(/user \d+ read \d+, which is deleted or of an author not followed/);
});

test('backfill ahead of `followers`: a post between the two reaches nobody', async () => {
  const why = await whatFails({
    relations: {
      ...engine.relations,
      async followChanged(context, pair) {
        const follows = await context.db.withSession((session) =>
          withPairLock(session, pair, async () => {
            await backfillPair(session, pair);
            return copyPairState(session, pair);
          }),
        );
        if (!follows) return engine.relations.followChanged(context, pair);
        const posts = await postsSinceFollow(context.db, pair, 1_000);
        await context.notifier.toUser(pair.followerId, posts, { importId: 0, committedAt: 0 });
      },
    },
  });
  expect(why).toMatch(/the feed of \d+ \(\w+\) is|missed post \d+, which had arrived|verify finds/);
});

test('rows trimmed and the floor not raised: what was trimmed is gone', async () => {
  const why = await whatFails({
    async trim(db, userId, { keep } = {}) {
      await db.query(
        `delete from feed_items where user_id = $1 and post_id not in (
           select post_id from feed_items where user_id = $1 order by post_id desc limit $2)`,
        [userId, keep],
      );
      return { users: 1, items: 0, seconds: 0 };
    },
  });
  expect(why).toMatch(/missed post \d+, which had arrived|the feed of \d+ \(\w+\) is/);
});

test('a mark without `both`: rows go before posts are merged', async () => {
  const why = await whatFails({
    async markCelebrity({ db }, userId) {
      await getUser(db, userId);
      const followers = await followersOf(db, userId);
      const items = await db.transaction((session) => removeAuthorItems(session, userId, followers));
      await setPushState(db, userId, 'pull');
      return { userId, followers: followers.length, items, changed: true };
    },
  });
  expect(why).toMatch(/missed post \d+, which had arrived|verify finds .*"orphans":[1-9]/);
});

test('an unmark without `both`: merging ends before the rows are there', { timeout: 300_000 }, async () => {
  const why = await whatFails({
    async unmarkCelebrity({ db }, userId) {
      await setPushState(db, userId, 'push');
      const followers = await followersOf(db, userId);
      const items = await db.transaction(async (session) => {
        await notifiedChanges.changing(session, followers);
        return backfillFollowers(session, userId, followers);
      });
      return { userId, followers: followers.length, items, changed: true };
    },
  });
  expect(why).toMatch(/missed post \d+, which had arrived/);
});

test('edits that reach caches only: a socket keeps the old text', { timeout: 180_000 }, async () => {
  // Few random histories edit a post that a socket has got.
  const edited = histories.filter(({ operations }) => {
    const connected = operations.findIndex((one) => one.do === 'connect');
    const updates = operations.filter((one, i) => one.do === 'update' && i > connected + 2);
    return connected >= 0 && updates.length > 2;
  });
  const why = await whatFails(
    {
      relations: {
        ...engine.relations,
        postsUpdated: (context, posts, header) =>
          engine.relations.postsUpdated({ ...context, notifier: silentNotifier }, posts, header),
      },
    },
    edited,
  );
  expect(why).toMatch(/the socket of user \d+ has an old text of post \d+/);
});
