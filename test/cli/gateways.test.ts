import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { follow, unfollow } from '../../src/engine/social/follows.ts';
import { createPost } from '../../src/engine/social/posts.ts';
import { inParallel } from '../../src/engine/store/parallel.ts';
import { Random } from '../properties/random.ts';
import { start } from '../support/cli.ts';
import { type TestCluster, testCluster } from '../support/cluster.ts';
import { testClient } from '../support/gateways.ts';

/** 5,000 for the whole size. */
const SOCKETS = Number(process.env.FEEDCTL_TEST_FAILOVER_SOCKETS || 300);
const SEED = Number(process.env.FEEDCTL_SEED || Date.now() % 2 ** 31);

async function gatewayProcess(cluster: TestCluster) {
  const process = start(['gateway', 'start', '--port', '0', '--sockets-per-ip', '0', '--json'], {
    env: { FEEDCTL_DATABASE_URL: cluster.url, FEEDCTL_LOG_LEVEL: 'warn' },
  });
  const { gatewayUrl } = JSON.parse(await process.printed(/^\{[\s\S]*\n\}\n/)) as { gatewayUrl: string };
  return { ...process, gatewayUrl };
}

test(`no post comes after an unfollow was answered, wherever its gateway was stopped (FEEDCTL_SEED=${SEED})`, {
  timeout: 180_000,
}, async () => {
  const random = new Random(SEED);
  const cluster = await testCluster();
  await cluster.startWorker();
  const gateway = await gatewayProcess(cluster);
  const [author, other, reader] = (await cluster.users(3)) as [number, number, number];
  const client = await testClient(cluster, reader);
  const pair = { followerId: reader, followeeId: author };
  await follow(cluster, { followerId: reader, followeeId: other });
  await client.open(gateway.gatewayUrl);
  const byAuthor = new Set<number>();
  const received = () => client.posts.filter((id) => byAuthor.has(id)).length;
  for (let round = 0; round < 24; round += 1) {
    const stopped = round % 2 === 0;
    await follow(cluster, pair);
    await cluster.settled();
    const posting = inParallel(Array.from({ length: 40 }), 8, async () => {
      byAuthor.add((await createPost(cluster, author, 'a post')).id);
    });
    await sleep(random.below(80));
    if (stopped) gateway.child.kill('SIGSTOP');
    await unfollow(cluster, pair);
    // What had come by then is read.
    for (let i = 0; i < 3; i += 1) await turn();
    const before = received();
    if (stopped) gateway.child.kill('SIGCONT');
    await posting;
    await cluster.settled();
    const { id } = await createPost(cluster, other, 'after all of them');
    await expect.poll(() => client.posts.at(-1)).toBe(id);
    expect(received(), `frames after the answer, round ${round}`).toBe(before);
  }
  expect(client.closes).toEqual([]);
  expect(received(), 'rounds in which posts came before the answer').toBeGreaterThan(0);
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
    `with pairs as (insert into follows (follower_id, followee_id) select * from unnest($1::bigint[], $2::bigint[]) returning *)
     insert into followers (follower_id, followee_id) select follower_id, followee_id from pairs`,
    [readers.flatMap((id) => [id, id]), follows.flat()],
  );
  await cluster.db.query(
    'update users set follower_count = (select count(*) from followers where followee_id = id) where id = any($1)',
    [authors],
  );
  const clients = await inParallel(readers, 50, (reader) => testClient(cluster, reader));
  // All at the first one, as long as it is there.
  let urls = [gateways[0].gatewayUrl];
  await inParallel(clients, 200, (client) => client.stay(() => urls));

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
