import { expect, test } from 'vitest';
import type { Outgoing } from '../../../src/engine/bus/bus.ts';
import { encodeEvents } from '../../../src/engine/model/messages.ts';
import { RowsMessage } from '../../../src/engine/model/rowsMessage.ts';
import { follow } from '../../../src/engine/social/follows.ts';
import { createPost } from '../../../src/engine/social/posts.ts';
import { testCluster } from '../../support/cluster.ts';
import { plantUsers } from '../feed/feeds.ts';

const HEADER = { importId: 0, committedAt: 0 };
const MESSAGES = 24;

const rowsOf = (userId: number, postId: number, authorId: number): Outgoing => {
  const message = new RowsMessage();
  message.add(0, userId, { authorId, postIds: [postId] });
  return { queue: 'rows.live', body: message.seal(HEADER) };
};

const deadLetters = async (cluster: Awaited<ReturnType<typeof testCluster>>) =>
  (await cluster.db.query<{ queue: string; reason: string }>('select queue, reason from bus.dead_letters'))
    .rows;

test('of a batch of rows that cannot be written, only the message at fault is put aside', async () => {
  const cluster = await testCluster();
  const { db, bus } = cluster;
  await db.query('alter table feed_items add constraint poison check (author_id <> 666)');
  await plantUsers(db, 99);
  const good = Array.from({ length: MESSAGES }, (_, i) => rowsOf(i + 1, 1000 + i, 7));
  await bus.publish(good.toSpliced(5, 0, rowsOf(99, 99, 666)).toSpliced(17, 0, rowsOf(98, 98, 666)));
  await cluster.startWorker();
  await cluster.settled();
  const { rows } = await db.query<{ id: number }>('select post_id as id from feed_items order by 1');
  expect(rows.map((row) => row.id)).toEqual(good.map((_, i) => 1000 + i));
  const dead = await deadLetters(cluster);
  expect(dead).toHaveLength(2);
  for (const letter of dead)
    expect(letter).toMatchObject({ queue: 'rows.live', reason: expect.stringContaining('poison') });
});

test('of a batch of events that cannot be planned, only the message at fault is put aside', async () => {
  const cluster = await testCluster();
  const [author, follower] = (await cluster.users(2)) as [number, number];
  await follow(cluster, { followerId: follower, followeeId: author });
  const worker = await cluster.startWorker();
  await cluster.settled();
  await worker.stop(5_000);
  const posts: number[] = [];
  for (let i = 0; i < MESSAGES; i += 1) {
    posts.push((await createPost(cluster, author, 'good')).id);
    // An id that no bigint holds, as a foreign program might write it.
    const poison = { id: 1, type: 'post.created' as const, aggregateId: author, subjectId: 2 ** 63 };
    if (i === 9) await cluster.bus.publish([{ queue: 'events', body: encodeEvents(HEADER, [poison]) }]);
  }
  await cluster.startWorker();
  await cluster.settled();
  const { rows } = await cluster.db.query<{ id: number }>('select post_id as id from feed_items order by 1');
  expect(rows.map((row) => row.id)).toEqual(posts);
  const dead = await deadLetters(cluster);
  expect(dead).toHaveLength(1);
  expect(dead[0]).toMatchObject({ queue: 'events', reason: expect.stringContaining('out of range') });
});
