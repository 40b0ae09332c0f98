import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { follow, unfollow } from '../../src/engine/social/follows.ts';
import { createPost, updatePost } from '../../src/engine/social/posts.ts';
import { runConcurrently } from '../../src/engine/util/parallel.ts';
import { Random } from '../properties/random.ts';
import { feedctl, json, start, waitUntil } from '../support/cli.ts';
import { type TestCluster, testCluster } from '../support/cluster.ts';
import { FeedClient } from '../support/feedClient.ts';
import { testClient } from '../support/gateways.ts';
import { openProxy } from '../support/proxy.ts';

/** 5,000 for the whole size. */
const SOCKETS = Number(process.env.FEEDCTL_TEST_FAILOVER_SOCKETS || 300);
const SEED = Number(process.env.FEEDCTL_SEED || Date.now() % 2 ** 31);

async function gatewayProcess(cluster: TestCluster, databaseUrl = cluster.url) {
  const process = start(['gateway', 'start', '--port', '0', '--sockets-per-ip', '0', '--json'], {
    env: {
      FEEDCTL_DATABASE_URL: databaseUrl,
      FEEDCTL_LOG_LEVEL: 'warn',
      FEEDCTL_IP_LIMIT: '0',
      FEEDCTL_USER_LIMIT: '0',
    },
  });
  const { gatewayUrl } = JSON.parse(await process.printed(/^\{[\s\S]*\n\}\n/)) as { gatewayUrl: string };
  return { ...process, gatewayUrl };
}

test(`no post comes after an unfollow was answered, whatever holds up the gateway (FEEDCTL_SEED=${SEED})`, {
  timeout: 180_000,
}, async () => {
  const random = new Random(SEED);
  const cluster = await testCluster();
  await cluster.startWorker();
  const proxy = await openProxy(cluster.url);
  const gateway = await gatewayProcess(cluster, proxy.url);
  const [author, other, reader] = (await cluster.users(3)) as [number, number, number];
  const client = await testClient(cluster, reader);
  let received = 0;
  client.onFrame = ({ messageId, payload }) => {
    if (messageId === 'post' && payload.author_user_id === String(author)) received += 1;
  };
  const pair = { followerId: reader, followeeId: author };
  await follow(cluster, { followerId: reader, followeeId: other });
  await client.open(gateway.gatewayUrl);
  const post = () => createPost(cluster, author, 'a post');
  // What is held up at the beginning of a round, or when its posts have begun to come; and how it goes on.
  const stop = () => {
    gateway.child.kill('SIGSTOP');
    return () => gateway.child.kill('SIGCONT');
  };
  const nothing = () => () => {};
  const ways = [
    { before: stop, within: nothing },
    // An answer of the database that was true is there when it is not any more.
    { before: nothing, within: () => proxy.hold() },
    { before: nothing, within: nothing },
  ];
  for (let round = 0; round < 27; round += 1) {
    const { before, within } = ways[round % ways.length]!;
    await follow(cluster, pair);
    await cluster.settled();
    const atStart = received;
    const goOn = before();
    const posting = runConcurrently(Array.from({ length: 40 }), 8, post);
    if (before === nothing) await waitUntil(() => received > atStart);
    await sleep(random.below(30));
    const release = within();
    await unfollow(cluster, pair);
    // What had come by then is read.
    for (let i = 0; i < 3; i += 1) await turn();
    const atAnswer = received;
    goOn();
    release();
    await posting;
    await cluster.settled();
    const { id } = await createPost(cluster, other, 'after all of them');
    await expect.poll(() => client.posts.at(-1)).toBe(id);
    expect(received, `frames after the answer, round ${round}`).toBe(atAnswer);
  }
  expect(client.closes).toEqual([]);
  gateway.child.kill('SIGTERM');
  expect(await gateway.ended).toMatchObject({ status: 0 });
  expect(client.closes).toEqual([1012]);
});

test(`${SOCKETS} sockets of a gateway that is killed go on at another, and miss nothing`, {
  timeout: 300_000,
}, async () => {
  const cluster = await testCluster();
  await cluster.startWorker();
  const gateways = await Promise.all([gatewayProcess(cluster), gatewayProcess(cluster)]);
  const authors = await cluster.users(10);
  const readers = await cluster.users(SOCKETS);
  const follows = readers.map((_, i) => [authors[i % 10]!, authors[(i + 3) % 10]!] as const);
  await cluster.db.query(
    `with pairs as (
       insert into follows (follower_id, followee_id)
       select * from unnest($1::bigint[], $2::bigint[]) returning *
     )
     insert into followers (follower_id, followee_id) select follower_id, followee_id from pairs`,
    [readers.flatMap((id) => [id, id]), follows.flat()],
  );
  await cluster.db.query(
    `update users set follower_count = (select count(*) from followers where followee_id = id)
     where id = any($1)`,
    [authors],
  );
  const clients = await runConcurrently(readers, 50, (reader) => testClient(cluster, reader));
  // All at the first one, as long as it is there.
  let urls = [gateways[0].gatewayUrl];
  await runConcurrently(clients, 200, (client) => client.stay(() => urls));

  const made = new Map(authors.map((author) => [author, [] as number[]]));
  let posting = true;
  const posts = (async () => {
    for (let i = 0; posting; i += 1) {
      const author = authors[i % authors.length]!;
      made.get(author)!.push((await createPost(cluster, author, `post ${i}`)).id);
      await sleep(100);
    }
  })();
  await expect.poll(() => clients.every((client) => client.posts.length > 0), { timeout: 60_000 }).toBe(true);
  urls = [gateways[1].gatewayUrl];
  gateways[0].child.kill('SIGKILL');
  await expect
    .poll(() => clients.every((client) => client.hellos.length > 1 && client.isOpen), { timeout: 120_000 })
    .toBe(true);
  posting = false;
  await posts;
  await cluster.settled();

  const expected = (i: number) => follows[i]!.flatMap((author) => made.get(author)!).sort((a, b) => a - b);
  await expect
    .poll(() => clients.filter((client, i) => client.posts.length < expected(i).length).length, {
      timeout: 60_000,
    })
    .toBe(0);
  for (const [i, client] of clients.entries()) {
    expect(client.posts.toSorted((a, b) => a - b)).toEqual(expected(i));
    expect(client.hellos.at(-1)!.payload.recovered).toBe(true);
  }
});

test('feed watch goes on at another gateway when its own stops', async () => {
  const cluster = await testCluster();
  await cluster.startWorker();
  const first = await gatewayProcess(cluster);
  const [author, reader] = (await cluster.users(2)) as [number, number];
  await follow(cluster, { followerId: reader, followeeId: author });
  await cluster.settled();
  const watch = start(['feed', 'watch', String(reader), '--count', '3', '--json'], {
    env: { FEEDCTL_DATABASE_URL: cluster.url },
  });
  await waitUntil(() => watch.stderr().includes(first.gatewayUrl));
  await createPost(cluster, author, 'at the first');
  await watch.printed(/at the first/);
  const second = await gatewayProcess(cluster);
  first.child.kill('SIGTERM');
  await createPost(cluster, author, 'in between');
  await waitUntil(() => watch.stderr().includes(second.gatewayUrl));
  await createPost(cluster, author, 'at the second');
  const { stdout, status } = await watch.ended;
  expect(status).toBe(0);
  const texts = stdout
    .trim()
    .split('\n')
    .map((line) => (JSON.parse(line) as { postText: string }).postText);
  expect(texts).toEqual(['at the first', 'in between', 'at the second']);
});

test('feed watch prints edits, marked as such, and counts posts only', async () => {
  const cluster = await testCluster();
  await cluster.startWorker();
  await gatewayProcess(cluster);
  const [author, reader] = (await cluster.users(2)) as [number, number];
  await follow(cluster, { followerId: reader, followeeId: author });
  await cluster.settled();
  const [people, scripts] = [[], ['--json']].map((flags) =>
    start(['feed', 'watch', String(reader), '--count', '2', ...flags], {
      env: { FEEDCTL_DATABASE_URL: cluster.url },
    }),
  ) as [ReturnType<typeof start>, ReturnType<typeof start>];
  for (const watch of [people, scripts]) await waitUntil(() => watch.stderr().includes('Watching'));
  const { id, createdAt } = await createPost(cluster, author, 'a post');
  for (const watch of [people, scripts]) await watch.printed(/a post/);
  await updatePost(cluster, id, 'another\ntext');
  for (const watch of [people, scripts]) await watch.printed(/another/);
  await createPost(cluster, author, 'the last');
  const at = createdAt.toISOString();
  const lines = (text: string) => text.trim().split('\n');
  expect(lines((await people.ended).stdout)).toEqual([
    `${at}  ${author}: a post`,
    `${at}  ${author}: another text (edited)`,
    expect.stringContaining('the last'),
  ]);
  const post = { postId: String(id), author_user_id: String(author), createdAt: at };
  expect(lines((await scripts.ended).stdout).map((line) => JSON.parse(line) as object)).toEqual([
    { ...post, postText: 'a post' },
    { ...post, postText: 'another\ntext', version: 2, edited: true },
    expect.objectContaining({ postText: 'the last' }),
  ]);
});

test('a key is rotated under gateways that run: tokens stay good, or end everywhere', async () => {
  const cluster = await testCluster();
  const gateways = [await gatewayProcess(cluster), await gatewayProcess(cluster)];
  const [user] = (await cluster.users(1)) as [number];
  const at = { env: { FEEDCTL_DATABASE_URL: cluster.url } };
  const statuses = (token: string) =>
    Promise.all(
      gateways.map(async ({ gatewayUrl }) => {
        const headers = { authorization: `Bearer ${token}` };
        return (await fetch(`${gatewayUrl}/post/feed`, { headers })).status;
      }),
    );
  const rotate = (...flags: string[]) => feedctl(['gateway', 'rotate-key', ...flags], at);
  const tokenOf = async () => (await json<{ token: string }>(['user', 'token', String(user)], at)).token;
  const first = await tokenOf();

  const planned = await rotate('--revoke', '--dry-run', '--json');
  expect(JSON.parse(planned.stdout)).toEqual({ keyId: null, accepted: [], revoked: ['0'] });
  expect(planned.status).toBe(0);
  const unasked = await rotate('--revoke', '--json');
  expect(unasked.status, 'nobody was asked').toBe(2);
  expect(JSON.parse(unasked.stdout)).toMatchObject({ error: { code: 'CONFIRMATION_REQUIRED' } });
  expect(await statuses(first)).toEqual([200, 200]);

  const rotated = await rotate();
  expect(rotated).toMatchObject({ status: 0, stderr: '' });
  expect(rotated.stdout).toMatch(/^Tokens are signed with key \S+\.\nKey 0 is accepted until .+\.\n$/);
  const second = await tokenOf();
  // A gateway that has not heard of the key reads it when it meets it, once a second at most.
  await expect.poll(() => statuses(second)).toEqual([200, 200]);
  expect(await statuses(first)).toEqual([200, 200]);

  const socket = new FeedClient(user, first);
  onTestFinished(() => socket.stop());
  await socket.open(gateways[0]!.gatewayUrl);
  const revoked = await rotate('--revoke', '--yes', '--json');
  expect(JSON.parse(revoked.stdout)).toMatchObject({ accepted: [], revoked: ['0', expect.any(String)] });
  for (const token of [first, second]) await expect.poll(() => statuses(token)).toEqual([401, 401]);
  await expect.poll(() => socket.closes, { timeout: 20_000 }).toEqual([1012]);
  expect(await statuses(await tokenOf())).toEqual([200, 200]);
});
