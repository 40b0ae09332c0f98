import { expect, test } from 'vitest';
import { markCelebrity } from '../../../src/engine/celebrities/change.ts';
import { encodeCursor } from '../../../src/engine/live/cursor.ts';
import { firstIdAt } from '../../../src/engine/model/ids.ts';
import { follow, unfollow } from '../../../src/engine/social/follows.ts';
import { createPost, deletePost } from '../../../src/engine/social/posts.ts';
import { testCluster } from '../../support/cluster.ts';
import { testClient, testGateway } from '../../support/gateways.ts';

/** A reader who follows an author, with a worker and two gateways. */
async function reading() {
  const cluster = await testCluster();
  await cluster.startWorker();
  const gateways = [await testGateway(cluster), await testGateway(cluster)] as const;
  const [author, reader] = (await cluster.users(2)) as [number, number];
  const pair = { followerId: reader, followeeId: author };
  await follow(cluster, pair);
  await cluster.settled();
  const client = await testClient(cluster, reader);
  const post = async (count = 1) => {
    const ids: number[] = [];
    for (let i = 0; i < count; i += 1) ids.push((await createPost(cluster, author, `post ${i}`)).id);
    return ids;
  };
  return { cluster, gateways, author, reader, pair, client, post };
}

test('a client that comes back gets what it missed, oldest first, and then goes live', async () => {
  const { cluster, gateways, client, post } = await reading();
  await client.open(gateways[0].url);
  expect(client.hellos).toMatchObject([{ payload: { gatewayId: gateways[0].id } }]);
  expect(client.hellos[0]!.payload).not.toHaveProperty('recovered');
  /** What comes live takes several ways side by side, and may pass what was made before it. */
  const live = (from: number, to?: number) => client.posts.slice(from, to).sort((a, b) => a - b);
  const before = await post(3);
  await expect.poll(() => live(0)).toEqual(before);
  await client.close();
  const missed = await post(120);
  await cluster.settled();
  await client.open(gateways[1].url);
  expect(client.hellos[1]).toMatchObject({ payload: { recovered: true, gatewayId: gateways[1].id } });
  const after = await post(2);
  await expect.poll(() => live(123)).toEqual(after);
  expect(client.posts.slice(3, 123)).toEqual(missed);
});

test('posts that are merged when a feed is read are resumed too; deleted ones and those of authors unfollowed are not', async () => {
  const { cluster, gateways, client, author, reader, post } = await reading();
  const [other] = (await cluster.users(1)) as [number];
  await follow(cluster, { followerId: reader, followeeId: other });
  await client.open(gateways[0].url);
  await client.close();
  await markCelebrity(cluster, author);
  const [kept, deleted] = (await post(2)) as [number, number];
  await createPost(cluster, other, 'of somebody else');
  await createPost(cluster, reader, 'of my own');
  await deletePost(cluster, deleted);
  await unfollow(cluster, { followerId: reader, followeeId: other });
  await client.open(gateways[0].url);
  const live = await post();
  await expect.poll(() => client.posts).toEqual([kept, ...live]);
});

test('a bare post id starts one reorder window earlier', async () => {
  const { cluster, gateways, client, post } = await reading();
  const ids = await post(3);
  await cluster.settled();
  await client.open(gateways[0].url, String(ids[1]));
  const live = await post();
  await expect.poll(() => client.posts).toEqual([...ids, ...live]);
});

test('a gap that is too long is said to be one, and the client goes on from now', async () => {
  const { cluster, gateways, client, author, reader, post } = await reading();
  await client.open(gateways[0].url);
  await client.close();
  await cluster.db.query(
    `with made as (insert into posts (author_id, id, body, created_at)
       select $1, $2::bigint + n, 'old', now() from generate_series(1, 1001) n returning id)
     insert into feed_items (user_id, post_id, author_id) select $3, id, $1 from made`,
    [author, firstIdAt(Date.now()), reader],
  );
  await client.open(gateways[0].url);
  expect(client.hellos[1]).toMatchObject({ payload: { recovered: false } });
  const live = await post();
  await expect.poll(() => client.posts).toEqual(live);
  await client.close();
  await client.open(gateways[0].url);
  expect(client.hellos[2]).toMatchObject({ payload: { recovered: true } });
  const next = await post();
  await expect.poll(() => client.posts).toEqual([...live, ...next]);
});

test('a post that comes while others are replayed comes once, after them', async () => {
  const { gateways, client, cluster, post } = await reading();
  await client.open(gateways[0].url);
  await client.close();
  const missed = await post(300);
  await cluster.settled();
  const [, live] = await Promise.all([client.open(gateways[0].url), post(30)]);
  await expect.poll(() => client.posts.length).toBe(330);
  expect(client.posts.slice(0, 300)).toEqual(missed);
  expect(client.posts.slice(300).toSorted((a, b) => a - b)).toEqual(live);
});

test('a post that is deleted is withdrawn from whoever follows, and once', async () => {
  const { cluster, gateways, client, post } = await reading();
  const [stranger] = (await cluster.users(1)) as [number];
  const other = await testClient(cluster, stranger);
  await other.open(gateways[0].url);
  await client.open(gateways[1].url);
  const [id] = (await post()) as [number];
  await expect.poll(() => client.posts).toEqual([id]);
  await deletePost(cluster, id);
  await expect.poll(() => client.deleted).toEqual([id]);
  await client.close();
  await client.open(gateways[0].url);
  const live = await post();
  await expect.poll(() => client.posts).toEqual([id, ...live]);
  expect(client.deleted).toEqual([id]);
  expect([...other.posts, ...other.deleted]).toEqual([]);
});

test('a cursor of a time that has not come is answered as a gap, and the client goes on from now', async () => {
  const { cluster, gateways, client, post } = await reading();
  const before = await post(2);
  await cluster.settled();
  const ahead = firstIdAt(Date.now() + 3_600_000);
  for (const cursor of [encodeCursor(ahead, []), encodeCursor(1, [ahead]), String(ahead)]) {
    await client.open(gateways[0].url, cursor);
    expect(client.hellos.at(-1)).toMatchObject({ payload: { recovered: false } });
    const live = await post();
    await expect.poll(() => client.posts).toEqual(live);
    await client.close();
    // The cursor that it has got is one to resume from.
    const missed = await post();
    await cluster.settled();
    await client.open(gateways[1].url);
    expect(client.hellos.at(-1)).toMatchObject({ payload: { recovered: true } });
    await expect.poll(() => client.posts).toEqual([...live, ...missed]);
    await client.close();
    client.posts.length = 0;
    before.push(...live, ...missed);
  }
  // What was not sent is in the feed, and a page from there is the newest.
  const page = await fetch(new URL(`/post/feed?before=${ahead}`, gateways[0].url), {
    headers: { authorization: `Bearer ${client.token}` },
  });
  expect(page.status).toBe(200);
  const ids = ((await page.json()) as { id: string }[]).map(({ id }) => Number(id));
  expect(ids).toEqual(before.toReversed());
});
