import { expect, onTestFinished, test } from 'vitest';
import { openMemoryCache } from '../../../src/engine/cache/memory/cache.ts';
import { markCelebrity, unmarkCelebrity } from '../../../src/engine/celebrities/change.ts';
import { startGateway } from '../../../src/engine/gateway/gateway.ts';
import { signToken } from '../../../src/engine/gateway/tokens.ts';
import { follow, unfollow } from '../../../src/engine/social/follows.ts';
import { createPost, deletePost, updatePost } from '../../../src/engine/social/posts.ts';
import { runConcurrently } from '../../../src/engine/util/parallel.ts';
import { Random } from '../../properties/random.ts';
import { type TestCluster, testCluster } from '../../support/cluster.ts';
import { FeedClient } from '../../support/feedClient.ts';
import { UNLIMITED } from '../../support/gateways.ts';

/** 2,000 for the whole size. */
const SOCKETS = Number(process.env.FEEDCTL_TEST_SOCKETS || 200);
const SEED = Number(process.env.FEEDCTL_SEED || Date.now() % 2 ** 31);
const ROUNDS = 12;
const POSTS_A_ROUND = 40;
const CHANGES_A_ROUND = 24;
const RESUMES_A_ROUND = Math.ceil(SOCKETS / 20);
const FOLLOWS_A_USER = 12;
const DRIVERS = 6;

/**
 * What happened when, on one clock of the test's: an action counts from its start, its effect holds
 * from its end.
 */
interface Follow {
  readonly from: { start: number; end: number };
  until: { start: number; end: number } | undefined;
}
interface ModelPost {
  readonly id: number;
  readonly author: number;
  readonly start: number;
  /** When everybody had got it. */
  settledAt: number;
  deletedAt: number | undefined;
  /** The last one. */
  text: string;
}

class Model {
  readonly follows = new Map<string, Follow[]>();
  readonly posts = new Map<number, ModelPost>();
  #clock = 0;

  get now(): number {
    this.#clock += 1;
    return this.#clock;
  }

  of(user: number, author: number): Follow[] {
    const key = `${user} ${author}`;
    const all = this.follows.get(key) ?? [];
    this.follows.set(key, all);
    return all;
  }

  /** Followed for certain during all of that time. */
  throughout(user: number, author: number, from: number, to: number): boolean {
    return this.of(user, author).some(
      (one) => one.from.end < from && (one.until === undefined || one.until.start > to),
    );
  }

  /** Perhaps followed at some moment of it. */
  sometime(user: number, author: number, from: number, to: number): boolean {
    return this.of(user, author).some(
      (one) => one.from.start < to && (one.until === undefined || one.until.end > from),
    );
  }
}

async function twoGateways(cluster: TestCluster): Promise<readonly string[]> {
  const urls: string[] = [];
  for (let i = 0; i < 2; i += 1) {
    const cache = await openMemoryCache(cluster.db);
    onTestFinished(() => cache.close());
    const sockets = { limits: { perUser: 0, perIp: 0 } };
    const gateway = await startGateway(
      { ...cluster, cache },
      { host: '127.0.0.1', port: 0, sockets, limits: UNLIMITED },
    );
    onTestFinished(() => gateway.stop(1_000));
    urls.push(gateway.url);
  }
  return urls;
}

test(`${SOCKETS} sockets at two gateways each get what they should, and nothing else (FEEDCTL_SEED=${SEED})`, {
  timeout: 600_000,
}, async () => {
  const random = new Random(SEED);
  const cluster = await testCluster();
  await cluster.startWorker();
  const urls = await twoGateways(cluster);
  const users = await cluster.users(Math.ceil(SOCKETS * 0.7));
  const authors = users.slice(0, Math.ceil(users.length / 4));
  const model = new Model();

  const setFollow = async (user: number, author: number) => {
    const all = model.of(user, author);
    const last = all.at(-1);
    if (last && last.until === undefined) return;
    const start = model.now;
    await follow(cluster, { followerId: user, followeeId: author });
    all.push({ from: { start, end: model.now }, until: undefined });
  };
  const setUnfollow = async (user: number, author: number) => {
    const last = model.of(user, author).at(-1);
    if (!last || last.until) return;
    const until = { start: model.now, end: Number.POSITIVE_INFINITY };
    last.until = until;
    await unfollow(cluster, { followerId: user, followeeId: author });
    until.end = model.now;
  };
  const pairs = users.flatMap((user) =>
    [...new Set(Array.from({ length: FOLLOWS_A_USER }, () => random.pick(authors)))]
      .filter((author) => author !== user)
      .map((author) => [user, author] as const),
  );
  await runConcurrently(pairs, DRIVERS, ([user, author]) => setFollow(user, author));
  await cluster.settled();

  // Some users have several sockets, some have none.
  const sessions = await runConcurrently(
    Array.from({ length: SOCKETS }, () => random.pick(users)),
    20,
    async (userId) => {
      const client = new FeedClient(userId, await signToken(cluster.db, userId));
      onTestFinished(() => client.stop());
      await client.open(random.pick(urls));
      return { client, since: model.now, resumes: [] as { from: number; to: number }[] };
    },
  );
  const busy = new Set<string>();
  const celebrities = new Set<number>();

  for (let round = 0; round < ROUNDS; round += 1) {
    const actions: (() => Promise<unknown>)[] = [];
    const fresh: ModelPost[] = [];
    for (let i = 0; i < POSTS_A_ROUND; i += 1) {
      const author = random.pick(authors);
      actions.push(async () => {
        const start = model.now;
        const text = `post ${i} of round ${round} by ${author} “äöü”`;
        const { id } = await createPost(cluster, author, text);
        const post: ModelPost = {
          id,
          author,
          start,
          settledAt: Number.POSITIVE_INFINITY,
          deletedAt: undefined,
          text,
        };
        model.posts.set(id, post);
        fresh.push(post);
        for (let edit = 1; i % 5 === 1 && edit < 4; edit += 1) {
          post.text = `${text}, edit ${edit}`;
          await updatePost(cluster, id, post.text);
        }
        if (i % 8 !== 0) return;
        post.deletedAt = model.now;
        await deletePost(cluster, id);
      });
    }
    for (let i = 0; i < CHANGES_A_ROUND; i += 1) {
      const [user, author] = [random.pick(users), random.pick(authors)];
      // One change of a pair at a time: of two at once nobody could say which came first.
      if (user === author || busy.has(`${user} ${author}`)) continue;
      busy.add(`${user} ${author}`);
      actions.push(() => (i % 2 ? setUnfollow : setFollow)(user, author));
    }
    if (round % 3 === 1) {
      const author = random.pick(authors);
      const mark = !celebrities.delete(author);
      if (mark) celebrities.add(author);
      actions.push(() => (mark ? markCelebrity : unmarkCelebrity)(cluster, author));
    }
    for (let i = 0; i < RESUMES_A_ROUND; i += 1) {
      const session = random.pick(sessions);
      const url = random.pick(urls);
      if (busy.has(`session ${sessions.indexOf(session)}`)) continue;
      busy.add(`session ${sessions.indexOf(session)}`);
      actions.push(async () => {
        await session.client.close();
        session.resumes.push({ from: model.now, to: Number.POSITIVE_INFINITY });
        await session.client.open(url);
      });
    }
    busy.clear();
    random.shuffle(actions);
    await runConcurrently(actions, DRIVERS, (act) => act());
    const acted = model.now;

    const must = sessions.flatMap(({ client, since }) =>
      fresh
        .filter(
          (post) =>
            post.author !== client.userId &&
            post.deletedAt === undefined &&
            since < post.start &&
            model.throughout(client.userId, post.author, post.start, acted),
        )
        .map((post) => ({ client, id: post.id })),
    );
    expect(must.length).toBeGreaterThan(SOCKETS);
    await cluster.settled();
    await expect
      .poll(() => must.filter(({ client, id }) => !client.posts.includes(id)).length, { timeout: 60_000 })
      .toBe(0);
    const settledAt = model.now;
    for (const post of fresh) post.settledAt = settledAt;
    for (const { resumes } of sessions)
      for (const resume of resumes) resume.to = Math.min(resume.to, settledAt);
  }

  // What a gateway still has to say, it says before a post that is made now.
  const [author] = authors as [number];
  for (const { client } of sessions)
    await setFollow(client.userId === author ? users.at(-1)! : client.userId, author);
  await cluster.settled();
  const start = model.now;
  const last = await createPost(cluster, author, 'the last one');
  model.posts.set(last.id, {
    id: last.id,
    author,
    start,
    settledAt: model.now,
    deletedAt: undefined,
    text: 'the last one',
  });

  await expect
    .poll(
      () =>
        sessions.filter(({ client }) => client.userId !== author && !client.posts.includes(last.id)).length,
    )
    .toBe(0);

  for (const { client, resumes } of sessions) {
    const { userId, posts, deleted, edits, texts } = client;
    expect(new Set(posts).size, `posts of user ${userId} that came twice`).toBe(posts.length);
    const strangers = [...posts, ...edits.map(({ postId }) => postId)].filter((id) => {
      const post = model.posts.get(id);
      if (!post || post.author === userId) return true;
      // A feed that is read when a session is resumed also has posts from before a follow.
      const times = [
        { from: post.start, to: post.settledAt },
        ...resumes.filter(({ to }) => to > post.start),
      ];
      return !times.some(({ from, to }) => model.sometime(userId, post.author, from, to));
    });
    expect(strangers, `posts of authors whom user ${userId} did not follow`).toEqual([]);
    const alive = deleted.filter((id) => model.posts.get(id)?.deletedAt === undefined);
    expect(alive, `posts that were withdrawn from user ${userId} and are there`).toEqual([]);
    if (resumes.length > 0) continue;
    const untold = posts.filter((id) => model.posts.get(id)!.deletedAt && !deleted.includes(id));
    expect(untold, `posts that user ${userId} got, and was not told that they were deleted`).toEqual([]);
    const old = [...texts].filter(([id, text]) => {
      const post = model.posts.get(id)!;
      return model.throughout(userId, post.author, post.start, post.settledAt) && text !== post.text;
    });
    expect(old, `old texts that user ${userId} has of authors followed all the time`).toEqual([]);
  }
});
