import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import type { Queryable } from '../../../src/engine/database/database.ts';
import { PresenceAnnouncer } from '../../../src/engine/live/announcer.ts';
import { encodeCursor } from '../../../src/engine/live/cursor.ts';
import { liveQueue } from '../../../src/engine/live/notifier.ts';
import { unregisterGateway } from '../../../src/engine/live/presence.ts';
import { FeedctlError } from '../../../src/engine/model/errors.ts';
import { firstIdAt } from '../../../src/engine/model/ids.ts';
import { createPost } from '../../../src/engine/social/posts.ts';
import { testCluster } from '../../support/cluster.ts';
import { followedAuthor } from '../../support/gateways.ts';

async function listening() {
  const { cluster, gateway, author, client } = await followedAuthor();
  await client.open(gateway.url);
  const post = async () => (await createPost(cluster, author, 'a post')).id;
  const isReady = async () => (await fetch(`${gateway.url}/readyz`)).ok;
  return { cluster, gateway, client, post, isReady };
}

test('a gateway that was declared dead comes back under another id, and its sockets are caught up', async () => {
  const { cluster, gateway, client, post, isReady } = await listening();
  const before = gateway.id;
  const first = await post();
  await expect.poll(() => client.posts).toEqual([first]);
  await unregisterGateway(cluster.db, before);
  await cluster.bus.dropQueue(liveQueue(before));
  // No notification: only the feed has it.
  const missed = await post();
  await cluster.settled();
  await expect.poll(() => gateway.id).not.toBe(before);
  await expect.poll(isReady).toBe(true);
  expect(client.posts).toEqual([first, missed]);
  const live = await post();
  await expect.poll(() => client.posts).toEqual([first, missed, live]);
  expect(client.closes).toEqual([]);
  const { rows } = await cluster.db.query('select id from gateways');
  expect(rows).toEqual([{ id: gateway.id }]);
});

test('a post that was held up, and then lost on its way, comes with the next catch-up', async () => {
  const { cluster, gateway, client, author, reader } = await followedAuthor();
  await client.open(gateway.url, encodeCursor(firstIdAt(Date.now() - 60_000), []));
  const made: number[] = [];
  for (let i = 0; i < 40; i += 1) made.push((await createPost(cluster, author, 'a post')).id);
  await expect.poll(() => client.posts.length).toBe(made.length);
  // Older than the reorder window, and without a notification: only the feed has it.
  const late = firstIdAt(Date.now() - 20_000);
  await cluster.db.query(
    `with post as (insert into posts (id, author_id, body, created_at) values ($1, $2, 'held up', now()))
     insert into feed_items (user_id, post_id, author_id) values ($3, $1, $2)`,
    [late, author, reader],
  );
  await unregisterGateway(cluster.db, gateway.id);
  const got = () => client.posts.toSorted((a, b) => a - b);
  await expect.poll(got, { timeout: 15_000 }).toEqual([late, ...made].sort((a, b) => a - b));
});

test('a gateway whose presence was lost announces everybody anew', async () => {
  const { cluster, gateway, client, post, isReady } = await listening();
  await cluster.db.query('delete from presence');
  // Workers learn of it when they read the list anew, as after any break of their session.
  await cluster.db.query(`select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and application_name = 'feedctl listener'`);
  await expect.poll(async () => (await cluster.db.query('select 1 from presence')).rowCount).toBe(1);
  await expect.poll(isReady).toBe(true);
  const live = await post();
  await expect.poll(() => client.posts).toContain(live);
  expect(new Set(client.posts).size).toBe(client.posts.length);
  expect(gateway.sockets).toBe(1);
});

test('thousands who come at once are announced by few statements, whatever is lost on the way', async () => {
  const { db } = await testCluster();
  const gatewayId = randomUUID();
  const online = new Set<number>();
  let statements = 0;
  let losing = false;
  const counting: Queryable = {
    async query(text, values) {
      statements += 1;
      const answer = await db.query(text, values);
      if (losing) throw new FeedctlError('DATABASE_UNREACHABLE', 'the answer is lost');
      return answer as never;
    },
  };
  const announcer = new PresenceAnnouncer(counting, gatewayId, (userId) => online.has(userId));
  const announced = async () => (await db.query('select 1 from presence')).rowCount;
  const users = Array.from({ length: 3_000 }, (_, i) => i + 1);
  for (const user of users) online.add(user);
  await Promise.all(users.map((user) => announcer.update([user])));
  expect(await announced()).toBe(3_000);
  expect(statements).toBeLessThanOrEqual(2);
  expect(announcer.size).toBe(3_000);
  losing = true;
  for (const user of users.slice(1_000)) online.delete(user);
  await Promise.allSettled(users.map((user) => announcer.update([user])));
  // Those whose end was committed, and the answer lost, are back before anybody knows.
  for (const user of users.slice(2_000)) online.add(user);
  losing = false;
  await announcer.retry();
  expect(await announced()).toBe(2_000);
  expect(announcer.size).toBe(2_000);
});
