import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { markCelebrity } from '../../../src/engine/celebrities/change.ts';
import type { Database } from '../../../src/engine/database/database.ts';
import { liveQueue } from '../../../src/engine/live/notifier.ts';
import { Sender } from '../../../src/engine/live/sender.ts';
import { Session } from '../../../src/engine/live/session.ts';
import { MAX_ID } from '../../../src/engine/model/ids.ts';
import {
  decodeLive,
  EDITED,
  encodeLive,
  type LiveRecord,
  RETRACTED,
} from '../../../src/engine/model/messages.ts';
import { follow, unfollow } from '../../../src/engine/social/follows.ts';
import { createPost, deletePost, updatePost } from '../../../src/engine/social/posts.ts';
import { markPostDeleted } from '../../../src/engine/store/posts.ts';
import { runConcurrently } from '../../../src/engine/util/parallel.ts';
import { type TestCluster, testCluster } from '../../support/cluster.ts';
import { followedAuthor, testClient, testGateway } from '../../support/gateways.ts';
import { type Frame, inProcessSocket } from '../../support/liveSocket.ts';

const HEADER = { importId: 0, committedAt: 1 };

/** Sends records to the sockets of a gateway, without a worker in between. */
const toGateway = (cluster: TestCluster, gatewayId: string, records: readonly LiveRecord[]) =>
  cluster.bus.publish([{ queue: liveQueue(gatewayId), body: encodeLive(HEADER, records) }]);

const waitsForPosts = async ({ db }: TestCluster) =>
  (await db.query(`select 1 from pg_locks where relation = 'posts'::regclass and not granted`)).rowCount;

/** A followed author with a post that the client has got. */
async function oneDelivered() {
  const all = await followedAuthor();
  const { cluster, gateway, author, client } = all;
  await client.open(gateway.url);
  const { id } = await createPost(cluster, author, 'first');
  await expect.poll(() => client.posts).toEqual([id]);
  return { ...all, postId: id };
}

test('an edit reaches the followers who are online, and no other user', async () => {
  const { cluster, gateway, author, client, postId } = await oneDelivered();
  const frames: Frame[] = [];
  client.onFrame = (frame) => frames.push(frame);
  const [stranger] = (await cluster.users(1)) as [number];
  const others = await Promise.all([author, stranger].map((user) => testClient(cluster, user)));
  for (const other of others) await other.open(gateway.url);
  const { cursor } = client;
  const { createdAt } = await updatePost(cluster, postId, 'second');
  await expect.poll(() => client.edits).toEqual([{ postId, version: 2 }]);
  expect(frames).toEqual([
    {
      messageId: 'edited',
      payload: {
        postId: String(postId),
        postText: 'second',
        author_user_id: String(author),
        createdAt: createdAt.toISOString(),
        version: 2,
      },
      cursor,
    },
  ]);
  expect(
    [...gateway.connections()].map(({ delivered }) => delivered).sort(),
    'edits count as no posts',
  ).toEqual([0, 0, 1]);
  // What a gateway has to say about the edit, it says before a later deletion.
  await deletePost(cluster, postId);
  await expect.poll(() => client.deleted).toEqual([postId]);
  for (const { edits, posts } of others) expect({ edits, posts }).toEqual({ edits: [], posts: [] });
});

test('an edit by a celebrity reaches their followers, also those who have not got the post', async () => {
  const { cluster, gateway, author, client, postId } = await oneDelivered();
  await markCelebrity(cluster, author);
  const [late] = (await cluster.users(1)) as [number];
  await follow(cluster, { followerId: late, followeeId: author });
  await cluster.settled();
  const other = await testClient(cluster, late);
  await other.open(gateway.url);
  await updatePost(cluster, postId, 'second');
  for (const { edits } of [client, other]) await expect.poll(() => edits).toEqual([{ postId, version: 2 }]);
  expect(client.texts.get(postId)).toBe('second');
  const { id } = await createPost(cluster, author, 'a merged post');
  await updatePost(cluster, id, 'a merged post, edited');
  for (const { texts } of [client, other])
    await expect.poll(() => texts.get(id)).toBe('a merged post, edited');
});

test('rapid edits at two gateways end with the last text at every socket, and no text comes after a newer one', {
  timeout: 120_000,
}, async () => {
  const cluster = await testCluster();
  await cluster.startWorker();
  await cluster.startWorker();
  const gateways = [await testGateway(cluster), await testGateway(cluster)];
  const [author, ...readers] = (await cluster.users(41)) as [number, ...number[]];
  await runConcurrently(readers, 8, (reader) => follow(cluster, { followerId: reader, followeeId: author }));
  await cluster.settled();
  const backwards: string[] = [];
  const clients = await runConcurrently(readers, 8, async (reader) => {
    const client = await testClient(cluster, reader);
    const versions = new Map<unknown, number>();
    client.onFrame = ({ messageId, payload }) => {
      if (messageId !== 'edited') return;
      const { postId, version } = payload as { postId: string; version: number };
      if (version < (versions.get(postId) ?? 0)) backwards.push(`${reader}: ${postId} version ${version}`);
      versions.set(postId, version);
    };
    await client.open(gateways[reader % 2]!.url);
    return client;
  });
  const token = (await testClient(cluster, author)).token;
  const send = async (gateway: number, method: string, path: string, body: object) => {
    const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
    const answer = await fetch(`${gateways[gateway]!.url}${path}`, {
      method,
      headers,
      body: JSON.stringify(body),
    });
    expect(answer.ok).toBe(true);
    return (await answer.json()) as { id: string; text: string; version: number };
  };
  const posts = await runConcurrently([1, 2, 3], 3, () => send(0, 'POST', '/post/create', { text: 'first' }));
  const last = new Map<number, { text: string; version: number }>();
  await runConcurrently(
    Array.from({ length: 60 }, (_, i) => i),
    6,
    async (i) => {
      const { id } = posts[i % posts.length]!;
      const edited = await send(i % 2, 'PUT', '/post/update', { id, text: `edit ${i}` });
      if (edited.version > (last.get(Number(id))?.version ?? 0)) last.set(Number(id), edited);
    },
  );
  expect([...last.values()].map(({ version }) => version)).toEqual([21, 21, 21]);
  for (const [id, { text }] of last)
    for (const client of clients)
      await expect.poll(() => client.texts.get(id), { timeout: 20_000 }).toBe(text);
  expect(backwards).toEqual([]);
  for (const client of clients) expect(client.posts.length).toBe(posts.length);
});

test('no edit comes after the unfollow that was answered while the edit was checked', async () => {
  const { cluster, gateway, author, reader, client, postId } = await oneDelivered();
  const [other] = (await cluster.users(1)) as [number];
  await follow(cluster, { followerId: reader, followeeId: other });
  await cluster.settled();
  await cluster.db.query(`update posts set body = 'second', version = 2`);
  await cluster.db.transaction(async (session) => {
    // The gateway finds that the reader follows, and waits for the text.
    await session.query('lock table posts in access exclusive mode');
    await toGateway(cluster, gateway.id, [{ userId: EDITED, authorId: author, postId }]);
    await expect.poll(() => waitsForPosts(cluster), { interval: 5 }).toBe(1);
    await unfollow(cluster, { followerId: reader, followeeId: author });
  });
  const { id } = await createPost(cluster, other, 'after it');
  await expect.poll(() => client.posts).toEqual([postId, id]);
  expect(client.edits).toEqual([]);
});

test('no edit comes of a post that was deleted while the edit was checked, or before', async () => {
  const { cluster, gateway, author, client, postId } = await oneDelivered();
  const record = { userId: EDITED, authorId: author, postId };
  await cluster.db.transaction(async (session) => {
    await session.query('lock table posts in access exclusive mode');
    await toGateway(cluster, gateway.id, [record]);
    await expect.poll(() => waitsForPosts(cluster), { interval: 5 }).toBe(1);
    await session.query(`update posts set body = 'second', version = 2 where id = $1`, [postId]);
    await markPostDeleted(session, { id: postId, authorId: author, eventId: await cluster.ids.next() });
  });
  await toGateway(cluster, gateway.id, [record]);
  const { id } = await createPost(cluster, author, 'after it');
  await expect.poll(() => client.posts).toEqual([postId, id]);
  expect(client.edits).toEqual([]);
});

test('a replay that has read an older text reads it again if the edit was sent meanwhile', async () => {
  const { cluster, author, reader, postId } = await oneDelivered();
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  let held = 0;
  // The first answer with the text arrives late, as over a slow connection.
  const slow = {
    async query(text: string, values?: unknown[]) {
      const answer = await cluster.db.query(text, values);
      if (text.includes('p.body') && held === 0) {
        held += 1;
        await released;
      }
      return answer;
    },
  } as unknown as Database;
  const frames: unknown[] = [];
  const socket = inProcessSocket(({ messageId, payload }) => frames.push([messageId, payload.postText]));
  const session = new Session(socket, reader, { low: 0, ids: [] }, true);
  session.greeted = true;
  const sender = new Sender({ db: slow }, new Map([[reader, [session]]]));
  const replay = sender.send([{ userId: reader, authorId: author, postId }], { only: session });
  await expect.poll(() => held).toBe(1);
  await cluster.db.query(`update posts set body = 'second', version = 2`);
  await sender.send([{ userId: EDITED, authorId: author, postId }]);
  expect(frames).toEqual([['edited', 'second']]);
  release();
  await replay;
  expect(frames).toEqual([
    ['edited', 'second'],
    ['post', 'second'],
  ]);
});

test('a check that is repeated sends an edit only to sessions that have not got it', async () => {
  const { cluster, author, reader, postId } = await oneDelivered();
  const [second] = (await cluster.users(1)) as [number];
  await follow(cluster, { followerId: second, followeeId: author });
  await cluster.db.query(`update posts set body = 'second', version = 2`);
  let checks = 0;
  const slow = {
    async query(text: string, values?: unknown[]) {
      const answer = await cluster.db.query(text, values);
      if (!text.includes('p.body')) return answer;
      checks += 1;
      // The first answer is too old for every session, the second for those of one user.
      if (checks === 1) await sleep(450);
      if (checks === 2) sender.invalidate(second);
      return answer;
    },
  } as unknown as Database;
  const frames: string[] = [];
  const session = (userId: number, name: string, greeted: boolean) => {
    const socket = inProcessSocket(({ payload }) => frames.push(`${name}: ${payload.postText}`));
    const opened = new Session(socket, userId, { low: 0, ids: [] }, false);
    opened.greeted = greeted;
    return opened;
  };
  const online = new Map([
    [reader, [session(reader, 'one', true), session(reader, 'before its hello', false)]],
    [second, [session(second, 'two', true)]],
  ]);
  const sender = new Sender({ db: slow }, online);
  const record = { userId: EDITED, authorId: author, postId };
  await sender.send([record, record]);
  expect(checks).toBe(3);
  expect(frames).toEqual(['one: second', 'two: second']);
});

test('a post that is edited while its check is repeated has the newer text from then on', async () => {
  const { cluster, author, reader, postId } = await oneDelivered();
  const [second] = (await cluster.users(1)) as [number];
  await follow(cluster, { followerId: second, followeeId: author });
  let checks = 0;
  const slow = {
    async query(text: string, values?: unknown[]) {
      const answer = await cluster.db.query(text, values);
      if (!text.includes('p.body')) return answer;
      checks += 1;
      if (checks > 1) return answer;
      sender.invalidate(second);
      await cluster.db.query(`update posts set body = 'second', version = 2`);
      return answer;
    },
  } as unknown as Database;
  const frames: string[] = [];
  const online = new Map(
    [reader, second].map((userId, i) => {
      const socket = inProcessSocket(({ payload }) => frames.push(`${i}: ${payload.postText}`));
      const session = new Session(socket, userId, { low: 0, ids: [] }, false);
      session.pending = undefined;
      return [userId, [session]];
    }),
  );
  const sender = new Sender({ db: slow }, online);
  await sender.send([reader, second].map((userId) => ({ userId, authorId: author, postId })));
  expect(frames).toEqual(['0: first', '1: second']);
});

test('an edit that was made while the client was away is in the feed, and is not sent', async () => {
  const { cluster, gateway, author, client, postId } = await oneDelivered();
  await client.close();
  await updatePost(cluster, postId, 'second');
  const { id } = await createPost(cluster, author, 'missed');
  await updatePost(cluster, id, 'missed, and edited');
  await cluster.settled();
  await client.open(gateway.url);
  await expect.poll(() => client.posts).toEqual([postId, id]);
  expect(client.texts.get(id), 'a post that is resumed has its present text').toBe('missed, and edited');
  expect(client.edits).toEqual([]);
  const headers = { authorization: `Bearer ${client.token}` };
  const feed = await (await fetch(`${gateway.url}/post/feed`, { headers })).json();
  expect((feed as { text: string }[]).map(({ text }) => text)).toEqual(['missed, and edited', 'second']);
});

test('a gateway ignores a recipient that it does not know, and sends the posts of the same message', async () => {
  expect(EDITED, 'no user and no recipient of earlier versions has this id').toBeGreaterThan(RETRACTED);
  expect(EDITED).toBeGreaterThan(MAX_ID);
  const { cluster, gateway, author, reader, client, postId } = await oneDelivered();
  const { id } = await createPost(cluster, author, 'held up');
  await expect.poll(() => client.posts).toEqual([postId, id]);
  const other = await testClient(cluster, reader);
  await other.open(gateway.url);
  // To this version it is what EDITED is to a version that does not know EDITED.
  const records = [
    { userId: EDITED + 2, authorId: author, postId },
    { userId: reader, authorId: author, postId: id },
  ];
  expect(decodeLive(encodeLive(HEADER, records)).live).toEqual(records);
  await toGateway(cluster, gateway.id, records);
  await expect.poll(() => other.posts).toEqual([id]);
  const { rows } = await cluster.db.query('select queue from bus.dead_letters');
  expect(rows).toEqual([]);
});
