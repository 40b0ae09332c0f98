import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import type { Bus } from '../../../../src/engine/bus/bus.ts';
import { markCelebrity, unmarkCelebrity } from '../../../../src/engine/celebrities/change.ts';
import { eraseUser } from '../../../../src/engine/erasure/eraseUser.ts';
import { pauseFanout } from '../../../../src/engine/fanout/laneControl.ts';
import { type SampleOptions, sampleFeeds } from '../../../../src/engine/feed/sample/schedule.ts';
import { verify } from '../../../../src/engine/feed/verify/verify.ts';
import type { MismatchKind, Sampling } from '../../../../src/engine/model/sample.ts';
import { follow, unfollow } from '../../../../src/engine/social/follows.ts';
import { createPost, deletePost } from '../../../../src/engine/social/posts.ts';
import { pauseLanes, resumeLanes } from '../../../../src/engine/store/lanes.ts';
import { activeUsers, readRowsSample, readSampling } from '../../../../src/engine/store/samples.ts';
import { silentLog } from '../../../../src/engine/telemetry/log.ts';
import { openMetrics } from '../../../../src/engine/telemetry/metrics.ts';
import { type TestCluster, testCluster } from '../../../support/cluster.ts';

const SHORT = { everyMs: 30, minAgeMs: 0, users: 20 } as const;
/** A look that fails is a fault of the test. */
const log = {
  ...silentLog,
  warn: (fields: object, message: string) => process.stderr.write(`${message} ${JSON.stringify(fields)}\n`),
};
const BY = { by: 'test', reason: null };

/** Samples until the test ends. */
async function sampled(cluster: TestCluster, options: SampleOptions = SHORT) {
  const metrics = await openMetrics();
  const stop = sampleFeeds({ ...cluster, log, metrics, id: 'sampler' }, options);
  onTestFinished(stop);
  const value = async (name: string) => {
    const samples = await metrics.samples();
    return samples.filter((one) => one.name === name).reduce((sum, one) => sum + one.value, 0);
  };
  return {
    stop,
    checked: () => value('feedctl_sampled_feeds_total'),
    mismatches: () => value('feedctl_sampled_mismatches_total'),
  };
}

/** Waits until the samples satisfy a condition. */
async function until(cluster: TestCluster, condition: (found: Sampling) => boolean): Promise<Sampling> {
  for (;;) {
    const found = await readSampling(cluster.db);
    if (condition(found)) return found;
    await sleep(20);
  }
}

/** Waits until `count` more feeds have been compared. */
async function looked(cluster: TestCluster, count: number): Promise<Sampling> {
  const { checked } = await readSampling(cluster.db);
  return until(cluster, (found) => found.checked >= checked + count);
}

/** A worker, an author and a follower with three posts in the feed. */
async function written() {
  const cluster = await testCluster();
  await cluster.startWorker();
  const [author, reader, stranger] = (await cluster.users(3)) as [number, number, number];
  await follow(cluster, { followerId: reader, followeeId: author });
  await cluster.settled();
  const posts: number[] = [];
  for (const text of ['one', 'two', 'three']) posts.push((await createPost(cluster, author, text)).id);
  const { id: other } = await createPost(cluster, stranger, 'not followed');
  await cluster.settled();
  return { cluster, author, reader, stranger, posts, other };
}

const FAULTS: readonly [string, MismatchKind, (reader: number, post: number) => string][] = [
  ['rows that vanished', 'missing', (reader) => `delete from feed_items where user_id = ${reader}`],
  [
    'a row of an author who is not followed',
    'strangers',
    (reader, post) =>
      `insert into feed_items (user_id, post_id, author_id)
       select ${reader}, id, author_id from posts where id = ${post}`,
  ],
];

test.each(FAULTS)('%s are reported until the feed is repaired', async (_, kind, plant) => {
  const { cluster, reader, posts, other } = await written();
  const { db } = cluster;
  const sampling = await sampled(cluster);
  await looked(cluster, 30);
  expect(await sampling.mismatches()).toBe(0);
  await db.query(plant(reader, other));
  const found = await until(cluster, ({ differing }) => differing.length > 0);
  const postId = kind === 'missing' ? posts[2] : other;
  expect(found.differing).toMatchObject([{ userId: reader, kind, postId }]);
  expect(found.last).toEqual(found.differing[0]);
  expect(found.mismatched).toEqual({ missing: 0, strangers: 0, cache: 0, [kind]: 1 });
  // Rows are reported, not repaired. Each look counts the feed again.
  const counted = await sampling.mismatches();
  const later = await looked(cluster, 30);
  expect(later.differing).toEqual(found.differing);
  expect(await sampling.mismatches()).toBeGreaterThan(counted);
  expect(await verify(db, reader)).toMatchObject({ mismatched: 1 });
  expect(await verify(db, reader, { repair: true })).toMatchObject({ mismatched: 1 });
  const repaired = await until(cluster, ({ differing }) => differing.length === 0);
  expect(repaired.last).toEqual(found.last);
});

test('rows of an unfollowed author are reported once no cleanup is left that would remove them', async () => {
  const { cluster, author, reader, posts } = await written();
  await unfollow(cluster, { followerId: reader, followeeId: author });
  await cluster.settled();
  await sampled(cluster);
  expect(await looked(cluster, 30)).toMatchObject({ differing: [] });
  await cluster.db.query('insert into feed_items (user_id, post_id, author_id) values ($1, $2, $3)', [
    reader,
    posts[0],
    author,
  ]);
  const { differing } = await until(cluster, (found) => found.differing.length > 0);
  expect(differing).toMatchObject([{ userId: reader, kind: 'strangers', postId: posts[0] }]);
});

test('a post that waits in a paused lane is no mismatch, and is one if its message vanished', async () => {
  const { cluster, author, reader } = await written();
  const { db } = cluster;
  // A worker that has not heard of the pause yet would deliver the post.
  const waits = { reason: null, dryRun: false, timeoutMs: 30_000, signal: new AbortController().signal };
  const { workers } = await pauseFanout(db, ['live', 'bulk'], waits);
  expect(workers).toEqual({ standing: 1, of: 1 });
  const { id } = await createPost(cluster, author, 'late');
  await sampled(cluster);
  const waiting = await until(cluster, (found) => found.waiting === 1);
  expect(waiting.differing).toEqual([]);
  const later = await looked(cluster, 60);
  expect(later).toMatchObject({ waiting: 1, differing: [] });
  await db.query('delete from bus.messages');
  const { differing } = await until(cluster, (found) => found.differing.length > 0);
  expect(differing).toMatchObject([{ userId: reader, kind: 'missing', postId: id }]);
});

test('a barrier that vanished holds up nothing: empty queues count', async () => {
  const { cluster, reader } = await written();
  const { db, bus } = cluster;
  // A queue whose markers another cluster consumes: no barrier passes.
  const stolen = new Proxy(bus, {
    get(target, name) {
      if (name === 'hasPassed') return async () => false;
      const value = target[name as keyof Bus];
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
  await sampled({ ...cluster, bus: stolen }, { ...SHORT, barrierLostMs: 0 });
  await db.query('delete from feed_items where user_id = $1', [reader]);
  const { differing } = await until(cluster, (found) => found.differing.length > 0);
  expect(differing).toMatchObject([{ userId: reader, kind: 'missing' }]);
});

test('an erased user is in no result', async () => {
  const { cluster, reader } = await written();
  const { db } = cluster;
  await sampled(cluster);
  await db.query('delete from feed_items where user_id = $1', [reader]);
  await until(cluster, (found) => found.differing.length > 0);
  const erased = await eraseUser({ ...cluster, sharedCache: undefined }, reader);
  expect(erased.left).toEqual([]);
  expect(await looked(cluster, 30)).toMatchObject({ differing: [], last: null });
});

test('every feed is looked at in turn, and those of online users in between', async () => {
  const cluster = await testCluster();
  const { db } = cluster;
  const users = (await cluster.users(9)).sort((a, b) => a - b);
  for (const user of users.slice(0, 3))
    await db.query('insert into presence (user_id, gateway_id) values ($1, gen_random_uuid())', [user]);
  expect(await activeUsers(db, 0, 2)).toEqual({ ids: users.slice(0, 2), online: users[1] });
  expect(await activeUsers(db, users[1]!, 2)).toEqual({ ids: [users[2], users[0]], online: users[0] });
  const places = new Set<number>();
  await sampled(cluster, { ...SHORT, users: 4 });
  while (places.size < 2) {
    const { walked } = await readRowsSample(db);
    if (walked > 0) places.add(walked);
    await sleep(5);
  }
  await until(cluster, ({ checked }) => checked >= 20);
});

test('after a sampler is killed in the middle of a look, the next one continues where it was', async () => {
  const cluster = await testCluster();
  const { db, url } = cluster;
  const users = (await cluster.users(60)).sort((a, b) => a - b);
  const child = spawn(process.execPath, [fileURLToPath(new URL('sampler.ts', import.meta.url)), url], {
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  const exited = once(child, 'exit');
  onTestFinished(() => void child.kill('SIGKILL'));
  await until(cluster, ({ checked }) => checked >= 6);
  // The next look waits for this lock, and its process is killed there.
  const locked = Promise.withResolvers<void>();
  const killed = Promise.withResolvers<void>();
  const locking = db.transaction(async (session) => {
    await session.query('lock table posts in access exclusive mode');
    locked.resolve();
    await killed.promise;
  });
  await locked.promise;
  for (;;) {
    const { rows } = await db.query(
      `select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`,
    );
    if (rows.length > 0) break;
    await sleep(10);
  }
  child.kill('SIGKILL');
  await exited;
  killed.resolve();
  await locking;
  const before = await readRowsSample(db);
  await sampled(cluster, { ...SHORT, users: 2, leaseSeconds: 1 });
  const after = await until(cluster, ({ checked }) => checked > before.checked);
  expect(after.checked).toBe(before.checked + 2);
  const { walked } = await readRowsSample(db);
  expect(walked).toBeGreaterThan(before.walked);
  expect(users.indexOf(walked)).toBeLessThanOrEqual(users.indexOf(before.walked) + 2 * 10);
});

test('nothing is reported while posts are in flight, a lane is paused, and follows and celebrities change', async () => {
  const cluster = await testCluster();
  const { db } = cluster;
  await cluster.startWorker();
  const readers = await cluster.users(12);
  const authors = await cluster.users(8);
  for (const followeeId of authors)
    for (const followerId of readers) await follow(cluster, { followerId, followeeId });
  await cluster.settled();
  await pauseLanes(db, ['bulk'], BY);
  const sampling = await sampled(cluster, { everyMs: 20, minAgeMs: 100, users: 40 });
  let running = true;
  const random = (below: number) => Math.floor(Math.random() * below);
  const repeated = async (work: () => Promise<unknown>) => {
    while (running) await work();
  };
  const pauses = repeated(async () => {
    // A change waits for the paused lane, so the lane is paused again and again.
    await sleep(300);
    await resumeLanes(db, ['bulk', 'live']);
    await sleep(200);
    await pauseLanes(db, random(2) === 0 ? ['bulk'] : ['bulk', 'live'], BY);
  });
  const others = Promise.all([
    repeated(async () => {
      const pair = { followerId: readers[random(12)]!, followeeId: authors[random(8)]! };
      await unfollow(cluster, pair);
      if (random(2) === 0) await sleep(random(60));
      await follow(cluster, pair);
    }),
    repeated(async () => {
      const pair = { followerId: readers[random(12)]!, followeeId: authors[random(8)]! };
      await unfollow(cluster, pair);
      await sleep(random(200));
      await follow(cluster, pair);
    }),
    repeated(async () => {
      const author = authors[0]!;
      await markCelebrity(cluster, author);
      await unmarkCelebrity(cluster, author);
    }),
  ]);
  for (let made = 0; made < 1_000; made += 20) {
    const ids = await Promise.all(
      Array.from({ length: 20 }, (_, i) => createPost(cluster, authors[(made + i) % 8]!, `post ${made + i}`)),
    );
    await deletePost(cluster, ids[0]!.id, { authorId: authors[made % 8]! });
  }
  running = false;
  await pauses;
  await resumeLanes(db, ['bulk', 'live']);
  await others;
  await cluster.settled();
  await looked(cluster, 200);
  expect(await sampling.checked()).toBeGreaterThan(1_000);
  expect(await readSampling(db)).toMatchObject({ differing: [], last: null });
  expect(await sampling.mismatches()).toBe(0);
  expect(await verify(db, undefined)).toMatchObject({ missing: 0, asymmetric: 0 });
  // Citus on two cores takes minutes.
}, 600_000);
