import { expect, test } from 'vitest';
import { sweep } from '../../../src/engine/fanout/sweeper.ts';
import { decodeEvents } from '../../../src/engine/model/messages.ts';
import { createPost } from '../../../src/engine/social/posts.ts';
import { testCluster } from '../../support/cluster.ts';
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
