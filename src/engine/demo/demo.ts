import { rm } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { fanOutDrained } from '../bus/drained.ts';
import { type EmbeddedCluster, startEmbeddedCluster } from '../cluster/roles.ts';
import type { Config } from '../config/config.ts';
import { readFeed } from '../feed/read/read.ts';
import { type VerifyResult, verify } from '../feed/verify/verify.ts';
import { signToken } from '../gateway/tokens.ts';
import { replay } from '../imports/activity.ts';
import { seedGraph } from '../imports/followGraph.ts';
import { type FeedFollower, followFeed } from '../live/client.ts';
import { DEFAULT_CELEBRITY_THRESHOLD } from '../model/celebrity.ts';
import { FeedctlError } from '../model/errors.ts';
import { createPost } from '../social/posts.ts';
import type { LatencyMs } from '../store/runs.ts';
import { silentLog } from '../telemetry/log.ts';
import { temporaryDirectory } from '../util/temporaryDirectory.ts';
import { expectedPushes, readersToWatch, topAuthors } from './sql.ts';

/** A slice of the Higgs activity data; see the README beside it. The same path from src and from dist. */
const DATA = new URL('./data/', import.meta.url);
const GRAPH = fileURLToPath(new URL('follows.edgelist.gz', DATA));
const ACTIVITY = fileURLToPath(new URL('activity_time.txt.gz', DATA));

/** Sockets that follow along: the users who follow the most accounts. */
const SOCKETS = 50;
/** Single posts, made one after the other through the gateway's own path, to see how long one takes. */
const LIVE_POSTS = 20;
const PUSH_TIMEOUT_MS = 10_000;
const PAGE = 1_000;

export const DEMO_STEPS = ['start', 'seed', 'connect', 'replay', 'post', 'verify', 'stop'] as const;
export type DemoStep = (typeof DEMO_STEPS)[number];

/** What a watcher sees of a demo that runs. */
export interface DemoSnapshot {
  readonly step: DemoStep;
  /** Of steps that have ended: what came of them. */
  readonly done: Partial<Record<DemoStep, string>>;
  /** 0 to 1 within the step, where that can be told. */
  readonly fraction?: number;
  readonly posts: number;
  readonly deliveries: number;
  readonly pushed: number;
  /** The last posts that arrived on a socket, newest first. */
  readonly recent: readonly { readerId: number; authorId: string; text: string }[];
}

export interface DemoResult {
  readonly users: number;
  readonly follows: number;
  readonly posts: number;
  readonly deliveries: number;
  readonly merged: number;
  /** Frames that arrived on the sockets. */
  readonly pushed: number;
  readonly seconds: number;
  readonly deliveriesPerSecond: number;
  readonly latencyMs: LatencyMs;
  /** From the call that made a post to its arrival on a follower's socket, one post at a time. */
  readonly postToSocketMs: { p50: number; max: number };
  readonly verify: VerifyResult & {
    /** Posts that a socket should have got and did not, got and should not have, or got twice. */
    readonly sockets: { expected: number; missing: number; strangers: number; duplicates: number };
    /** Whole feeds read page by page that differ from what the follows and posts say. */
    readonly readsMismatched: number;
  };
}

/** Runs a whole cluster in a temporary directory through real work, proves what came out, and leaves nothing. */
export async function runDemo(
  config: Config,
  options: { version: string; signal: AbortSignal; onUpdate: (snapshot: DemoSnapshot) => void },
): Promise<DemoResult> {
  const { signal } = options;
  const startedAt = performance.now();
  let snapshot: DemoSnapshot = { step: 'start', done: {}, posts: 0, deliveries: 0, pushed: 0, recent: [] };
  const update = (change: Partial<DemoSnapshot>) => {
    snapshot = { ...snapshot, ...change };
    options.onUpdate(snapshot);
  };
  const finish = (step: DemoStep, result: string) => {
    signal.throwIfAborted();
    const next = DEMO_STEPS[DEMO_STEPS.indexOf(step) + 1] ?? step;
    const { fraction: _, ...rest } = snapshot;
    snapshot = rest;
    update({ step: next, done: { ...snapshot.done, [step]: result } });
  };

  const dataDir = await temporaryDirectory('demo');
  let embedded: EmbeddedCluster | undefined;
  const watchers: Watcher[] = [];
  try {
    update({});
    embedded = await startEmbeddedCluster(
      { ...config, dataDir, databaseUrl: undefined, embedded: true },
      { host: '127.0.0.1', port: 0, log: silentLog, version: options.version, temporary: true, signal },
    );
    const { cluster, gateway, worker, cache } = embedded;
    const { db } = cluster;
    finish('start', `PostgreSQL ${embedded.postgres.version}, a worker, a gateway at ${gateway.url}`);

    const seeded = await seedGraph(cluster, [GRAPH], {
      celebrityThreshold: DEFAULT_CELEBRITY_THRESHOLD,
      signal,
      onProgress: (pairs) => update({ fraction: Math.min(1, pairs / 60_000) }),
    });
    finish(
      'seed',
      `${count(seeded.users)} users, ${count(seeded.follows)} follows, ${seeded.celebrities} celebrities`,
    );

    for (const userId of await readersToWatch(db, SOCKETS)) {
      const watcher = new Watcher(userId, (text, authorId) => {
        update({
          pushed: snapshot.pushed + 1,
          recent: [{ readerId: userId, authorId, text }, ...snapshot.recent].slice(0, 5),
        });
      });
      await watcher.connect(gateway.url, await signToken(db, userId));
      watchers.push(watcher);
    }
    finish('connect', `${watchers.length} WebSockets, as the users who follow the most accounts`);

    const replayed = await replay(cluster, ACTIVITY, {
      signal,
      onProgress: (progress) =>
        update({
          posts: progress.phase === 'checking' ? 0 : progress.rows,
          deliveries: worker.rowsWritten,
          ...(progress.total > 0 && { fraction: progress.rows / progress.total }),
        }),
    });
    update({ posts: replayed.posts, deliveries: replayed.deliveries });
    finish(
      'replay',
      `${count(replayed.posts)} posts became ${count(replayed.deliveries)} deliveries in ${replayed.seconds.toFixed(1)} s`,
    );

    const latencies: number[] = [];
    for (const authorId of await topAuthors(
      db,
      watchers.map((watcher) => watcher.userId),
      LIVE_POSTS,
    )) {
      const postedAt = performance.now();
      const post = await createPost(cluster, authorId, `a post of the demo, by user ${authorId}`);
      await waitFor(() => watchers.some((watcher) => watcher.got(post.id)), signal);
      latencies.push(performance.now() - postedAt);
      update({ posts: snapshot.posts + 1 });
    }
    latencies.sort((a, b) => a - b);
    const postToSocketMs = {
      p50: round(latencies[latencies.length >> 1] ?? 0),
      max: round(latencies.at(-1) ?? 0),
    };
    finish('post', `${latencies.length} single posts reached a socket in ${postToSocketMs.p50} ms (median)`);

    await fanOutDrained(cluster, signal);
    const sockets = await compareSockets(embedded, watchers, signal);
    const checked = await verify(db, undefined, {
      signal,
      onProgress: (done, total) => update({ fraction: done / total }),
    });
    let readsMismatched = 0;
    for (const watcher of watchers)
      if (!(await readsAsItShould(embedded, watcher.userId))) readsMismatched += 1;
    const { duplicates } = await verify(db, watchers[0]!.userId, { cache });
    finish(
      'verify',
      `${count(checked.checked)} feeds compared, ${checked.mismatched} differ; ${count(sockets.expected)} pushes compared`,
    );

    for (const watcher of watchers) watcher.close();
    await embedded.stop();
    await rm(dataDir, { recursive: true, force: true });
    finish('stop', 'nothing is left running or on disk');
    return {
      users: seeded.users,
      follows: seeded.follows,
      posts: replayed.posts + latencies.length,
      deliveries: replayed.deliveries,
      merged: replayed.merged,
      pushed: watchers.reduce((sum, watcher) => sum + watcher.frames, 0),
      seconds: round((performance.now() - startedAt) / 1000),
      deliveriesPerSecond: replayed.deliveriesPerSecond,
      latencyMs: replayed.latencyMs,
      postToSocketMs,
      verify: { ...checked, duplicates: checked.duplicates + duplicates, sockets, readsMismatched },
    };
  } catch (error) {
    if (signal.aborted)
      throw new FeedctlError('INTERRUPTED', 'the demo was interrupted', { cause: error, suggestions: [] });
    throw error;
  } finally {
    for (const watcher of watchers) watcher.close();
    await embedded?.stop();
    await rm(dataDir, { recursive: true, force: true });
  }
}

/** A user with an open socket, and what came through it. */
class Watcher {
  readonly userId: number;
  readonly posts = new Map<number, number>();
  frames = 0;
  readonly #onPost: (text: string, authorId: string) => void;
  #socket: FeedFollower | undefined;

  constructor(userId: number, onPost: (text: string, authorId: string) => void) {
    this.userId = userId;
    this.#onPost = onPost;
  }

  async connect(gatewayUrl: string, token: string): Promise<void> {
    this.#socket = await followFeed(gatewayUrl, token, (post) => {
      const id = Number(post.postId);
      this.frames += 1;
      this.posts.set(id, (this.posts.get(id) ?? 0) + 1);
      this.#onPost(post.postText, post.author_user_id);
    });
  }

  got(postId: number): boolean {
    return this.posts.has(postId);
  }

  close(): void {
    this.#socket?.close();
  }
}

/** What each socket got against what it should have got: all posts of the demo by authors its user follows. */
async function compareSockets(
  embedded: EmbeddedCluster,
  watchers: readonly Watcher[],
  signal: AbortSignal,
): Promise<DemoResult['verify']['sockets']> {
  const wanted = await expectedPushes(
    embedded.cluster.db,
    watchers.map((watcher) => watcher.userId),
  );
  const expected = [...wanted.values()].reduce((sum, posts) => sum + posts.size, 0);
  const missing = () =>
    watchers.reduce(
      (sum, watcher) => sum + [...(wanted.get(watcher.userId) ?? [])].filter((id) => !watcher.got(id)).length,
      0,
    );
  // Rows are settled; their last frames may still be on the way.
  await waitFor(() => missing() === 0, signal).catch(() => {});
  let strangers = 0;
  let duplicates = 0;
  for (const watcher of watchers) {
    for (const [id, times] of watcher.posts) {
      if (!wanted.get(watcher.userId)?.has(id)) strangers += 1;
      duplicates += times - 1;
    }
  }
  return { expected, missing: missing(), strangers, duplicates };
}

/** Reads a feed to its end as a client does, once from the table and once from the cache. */
async function readsAsItShould(embedded: EmbeddedCluster, userId: number): Promise<boolean> {
  const { db } = embedded.cluster;
  const wanted = (await expectedPushes(db, [userId], { own: true })).get(userId) ?? new Set<number>();
  for (const cache of [undefined, embedded.cache]) {
    const read: number[] = [];
    for (let cursor: string | null | undefined; cursor !== null; ) {
      const page = await readFeed(db, userId, { limit: PAGE, ...(cursor && { cursor }) }, cache);
      read.push(...page.items.map((item) => item.postId));
      cursor = page.nextCursor;
    }
    const newestFirst = read.every((id, i) => i === 0 || id < read[i - 1]!);
    if (!newestFirst || read.length !== wanted.size || !read.every((id) => wanted.has(id))) return false;
  }
  return true;
}

async function waitFor(condition: () => boolean, signal: AbortSignal): Promise<void> {
  for (const until = Date.now() + PUSH_TIMEOUT_MS; !condition(); await sleep(1)) {
    signal.throwIfAborted();
    if (Date.now() > until) throw new FeedctlError('INTERNAL', 'a post did not reach its socket in time');
  }
}

const count = (value: number): string => value.toLocaleString('en-US');
const round = (value: number): number => Math.round(value * 10) / 10;
