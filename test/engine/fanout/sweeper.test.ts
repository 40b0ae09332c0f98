import { expect, test } from 'vitest';
import type { Database } from '../../../src/engine/database/database.ts';
import { sweep } from '../../../src/engine/fanout/sweeper.ts';
import { FeedctlError } from '../../../src/engine/model/errors.ts';
import { decodeEvents } from '../../../src/engine/model/messages.ts';
import { follow, unfollow } from '../../../src/engine/social/follows.ts';
import { createPost, deletePost, updatePost } from '../../../src/engine/social/posts.ts';
import { plainDatabase, testCluster } from '../../support/cluster.ts';
import { openInbox } from '../bus/inbox.ts';

/** A cluster whose author posted while the bus was away. */
async function leftBehind(posts: number) {
  const cluster = await testCluster();
  const [author] = await cluster.users(1);
  const away = { ...cluster, bus: { ...cluster.bus, publish: () => Promise.reject(new Error('away')) } };
  const ids: number[] = [];
  for (let i = 0; i < posts; i += 1) ids.push((await createPost(away, author!, 'kept')).id);
  const grow = () => cluster.db.query(`update events set occurred_at = '2020-01-01'`);
  return { cluster, ids, grow };
}

test('events that never were dispatched are published once, when they are old enough', async () => {
  const { cluster, ids, grow } = await leftBehind(3);
  expect(await sweep(cluster)).toBe(0);
  await grow();
  expect(await sweep(cluster)).toBe(3);
  expect(await sweep(cluster)).toBe(0);
  const inbox = await openInbox(cluster.bus, { queues: ['events'], prefetch: 10 });
  const { events } = decodeEvents((await inbox.next()).body);
  expect(events.map((event) => event.subjectId)).toEqual(ids);
});

test('sweepers of several workers share the work, and none is published twice', async () => {
  const { cluster, grow } = await leftBehind(3);
  await grow();
  const swept = await Promise.all(Array.from({ length: 4 }, () => sweep(cluster)));
  expect(swept.reduce((sum, count) => sum + count)).toBe(3);
});

test('what the bus refuses stays for the next sweep', async () => {
  const { cluster, grow } = await leftBehind(2);
  await grow();
  const refusing = { ...cluster.bus, publish: () => Promise.reject(new Error('full')) };
  await expect(sweep({ ...cluster, bus: refusing })).rejects.toThrow();
  expect(await sweep(cluster)).toBe(2);
});

/** Numbers of posts, of events by whether they are dispatched, and of messages. */
async function counts(db: Database) {
  // Citus plans no subquery beside an aggregate.
  const { rows } = await db.query<{ posts: number; dispatched: number; waiting: number; messages: number }>(
    `select (select count(*) from posts)::integer as posts,
            (select count(*) from events where dispatched_at is not null)::integer as dispatched,
            (select count(*) from events where dispatched_at is null)::integer as waiting,
            (select count(*) from bus.messages)::integer as messages`,
  );
  return rows[0]!;
}

test('a queue in the database gets each event in the transaction that commits it', async () => {
  const { db, ...cluster } = await testCluster();
  const context = { db, ...cluster };
  const [author, follower] = (await cluster.users(2)) as [number, number];
  const pair = { followerId: follower, followeeId: author };
  await follow(context, pair);
  await follow(context, pair);
  const post = await createPost(context, author, 'a', { key: 'once' });
  expect((await createPost(context, author, 'a', { key: 'once' })).id).toBe(post.id);
  await updatePost(context, post.id, 'b');
  await deletePost(context, post.id);
  await unfollow(context, pair);
  expect(await counts(db)).toEqual({ posts: 1, dispatched: 5, waiting: 0, messages: 5 });
});

test('a session that dies before the commit leaves neither a post nor a message', async () => {
  // On Citus the event is published after the commit.
  const cluster = await testCluster(undefined, plainDatabase());
  const { db } = cluster;
  const [author] = (await cluster.users(1)) as [number];
  const dying: Database = Object.create(db, {
    transaction: {
      value: (work: Parameters<Database['transaction']>[0]) =>
        db.transaction(async (session) => {
          const result = await work(session);
          await session.query('select pg_terminate_backend(pg_backend_pid())');
          return result;
        }),
    },
  });
  await expect(createPost({ ...cluster, db: dying }, author, 'lost')).rejects.toThrow();
  expect(await counts(db)).toEqual({ posts: 0, dispatched: 0, waiting: 0, messages: 0 });
  await createPost(cluster, author, 'kept');
  expect(await counts(db)).toEqual({ posts: 1, dispatched: 1, waiting: 0, messages: 1 });
});

test('a full queue refuses no post: the sweeper publishes its event', async () => {
  const cluster = await testCluster();
  const { db } = cluster;
  const [author] = (await cluster.users(1)) as [number];
  const refuse = () => Promise.reject(new FeedctlError('QUEUE_FULL', 'the queue events is at its limit'));
  const full = Object.assign(Object.create(cluster.bus), { publish: refuse, publishIn: refuse });
  await createPost({ ...cluster, bus: full }, author, 'kept');
  expect(await counts(db)).toEqual({ posts: 1, dispatched: 0, waiting: 1, messages: 0 });
  expect(await sweep(cluster, { minAgeMs: 0 })).toBe(1);
  expect(await counts(db)).toEqual({ posts: 1, dispatched: 1, waiting: 0, messages: 1 });
});
