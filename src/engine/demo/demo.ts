import { rm } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { fanOutDrained } from '../bus/drained.ts';
import type { Cluster } from '../cluster/cluster.ts';
import { type EmbeddedCluster, startTemporaryCluster } from '../cluster/roles.ts';
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
import { secondsSince, tenths } from '../util/numbers.ts';
import { poll } from '../util/poll.ts';
import { temporaryDirectory } from '../util/temporaryDirectory.ts';
import { expectedPushes, readersToWatch, topAuthors } from './sql.ts';

/** A slice of the Higgs activity data, see data/README.md. The path is the same in src and in dist. */
const DATA = new URL('./data/', import.meta.url);
const GRAPH = fileURLToPath(new URL('follows.edgelist.gz', DATA));
const ACTIVITY = fileURLToPath(new URL('activity_time.txt.gz', DATA));
/** Follows of the graph, about: only for the bar. */
const PAIRS = 60_000;

/** Sockets: the users who follow the most accounts. */
const SOCKETS = 50;
/** Posts that are made one after the other, to measure the latency of a single post. */
const SINGLE_POSTS = 20;
const PUSH_TIMEOUT_MS = 10_000;
const PUSH_POLL_MS = 1;
const PAGE = 1_000;
/** Posts that the view shows. */
const RECENT = 5;

export const DEMO_STEPS = ['start', 'seed', 'connect', 'replay', 'post', 'verify', 'stop'] as const;
export type DemoStep = (typeof DEMO_STEPS)[number];

/** State of a running demo. */
export interface DemoSnapshot {
  readonly step: DemoStep;
  /** Results of the finished steps. */
  readonly done: Partial<Record<DemoStep, string>>;
  /** Progress of the step from 0 to 1, if it is known. */
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
  /** From the call that makes a post to its arrival on a follower's socket, one post at a time. */
  readonly postToSocketMs: { p50: number; max: number };
  readonly verify: VerifyResult & {
    /** Posts that a socket missed, got without following the author, or got twice. */
    readonly sockets: { expected: number; missing: number; strangers: number; duplicates: number };
    /** Feeds that differ from follows and posts when they are read page by page. */
    readonly readsMismatched: number;
  };
}

export interface DemoOptions {
  readonly version: string;
  readonly signal: AbortSignal;
  readonly onUpdate: (snapshot: DemoSnapshot) => void;
}

/**
 * Runs a whole cluster in a temporary directory through real work, verifies every feed, and removes
 * everything. Throws INTERRUPTED when the signal aborts.
 */
export async function runDemo(config: Config, options: DemoOptions): Promise<DemoResult> {
  const dataDir = await temporaryDirectory('demo');
  const demo = new Demo(config, dataDir, options);
  try {
    return await demo.run();
  } catch (error) {
    if (options.signal.aborted)
      throw new FeedctlError('INTERRUPTED', 'the demo was interrupted; nothing of it is left', {
        cause: error,
        suggestions: [],
      });
    throw error;
  } finally {
    await demo.stop();
  }
}

/** One method a step. */
class Demo {
  readonly #config: Config;
  readonly #dataDir: string;
  readonly #options: DemoOptions;
  readonly #watchers: Watcher[] = [];
  #embedded: EmbeddedCluster | undefined;
  #snapshot: DemoSnapshot = { step: 'start', done: {}, posts: 0, deliveries: 0, pushed: 0, recent: [] };

  constructor(config: Config, dataDir: string, options: DemoOptions) {
    this.#config = config;
    this.#dataDir = dataDir;
    this.#options = options;
  }

  async run(): Promise<DemoResult> {
    const startedAt = performance.now();
    const embedded = await this.#start();
    const seeded = await this.#seed(embedded);
    await this.#connect(embedded);
    const replayed = await this.#replay(embedded);
    const postToSocketMs = await this.#post(embedded);
    const verified = await this.#verify(embedded);
    await this.stop();
    this.#finish('stop', 'nothing is left running or on disk');
    return {
      users: seeded.users,
      follows: seeded.follows,
      posts: this.#snapshot.posts,
      deliveries: replayed.deliveries,
      merged: replayed.merged,
      pushed: this.#watchers.reduce((sum, watcher) => sum + watcher.frames, 0),
      seconds: secondsSince(startedAt),
      deliveriesPerSecond: replayed.deliveriesPerSecond,
      latencyMs: replayed.latencyMs,
      postToSocketMs,
      verify: verified,
    };
  }

  /** Stops and removes everything that runs. May be called again. */
  async stop(): Promise<void> {
    for (const watcher of this.#watchers) watcher.close();
    await this.#embedded?.stop();
    await rm(this.#dataDir, { recursive: true, force: true });
  }

  async #start(): Promise<EmbeddedCluster> {
    this.#update({});
    const { version, signal } = this.#options;
    const embedded = await startTemporaryCluster(this.#config, this.#dataDir, {
      host: '127.0.0.1',
      port: 0,
      log: silentLog,
      version,
      signal,
    });
    this.#embedded = embedded;
    const { postgres, gateway } = embedded;
    this.#finish('start', `PostgreSQL ${postgres.version}, a worker, a gateway at ${gateway.url}`);
    return embedded;
  }

  async #seed({ cluster }: EmbeddedCluster): Promise<{ users: number; follows: number }> {
    const seeded = await seedGraph(cluster, [GRAPH], {
      celebrityThreshold: DEFAULT_CELEBRITY_THRESHOLD,
      signal: this.#options.signal,
      onProgress: (pairs) => this.#update({ fraction: Math.min(1, pairs / PAIRS) }),
    });
    const { users, follows, celebrities } = seeded;
    this.#finish('seed', `${count(users)} users, ${count(follows)} follows, ${celebrities} celebrities`);
    return seeded;
  }

  async #connect({ cluster: { db }, gateway }: EmbeddedCluster): Promise<void> {
    for (const userId of await readersToWatch(db, SOCKETS)) {
      const watcher = new Watcher(userId, (text, authorId) => {
        const { pushed, recent } = this.#snapshot;
        const post = { readerId: userId, authorId, text };
        this.#update({ pushed: pushed + 1, recent: [post, ...recent].slice(0, RECENT) });
      });
      await watcher.connect(gateway.url, await signToken(db, userId));
      this.#watchers.push(watcher);
    }
    this.#finish('connect', `${this.#watchers.length} WebSockets, as the users who follow the most accounts`);
  }

  async #replay({ cluster, worker }: EmbeddedCluster) {
    const replayed = await replay(cluster, ACTIVITY, {
      signal: this.#options.signal,
      onProgress: (progress) =>
        this.#update({
          posts: progress.phase === 'checking' ? 0 : progress.posts,
          deliveries: worker.rowsWritten,
          ...(progress.owed > 0 && { fraction: progress.rows / progress.owed }),
        }),
    });
    const { posts, deliveries, seconds } = replayed;
    this.#update({ posts, deliveries });
    this.#finish(
      'replay',
      `${count(posts)} posts became ${count(deliveries)} deliveries in ${seconds.toFixed(1)} s`,
    );
    return replayed;
  }

  async #post({ cluster }: EmbeddedCluster): Promise<DemoResult['postToSocketMs']> {
    const readers = this.#watchers.map((watcher) => watcher.userId);
    const latencies: number[] = [];
    for (const authorId of await topAuthors(cluster.db, readers, SINGLE_POSTS)) {
      const postedAt = performance.now();
      const post = await createPost(cluster, authorId, `a post of the demo, by user ${authorId}`);
      if (!(await this.#waitForPush(() => this.#watchers.some((watcher) => watcher.got(post.id)))))
        throw new FeedctlError(
          'INTERNAL',
          `no socket got post ${post.id} within ${PUSH_TIMEOUT_MS / 1_000} s`,
        );
      latencies.push(performance.now() - postedAt);
      this.#update({ posts: this.#snapshot.posts + 1 });
    }
    latencies.sort((a, b) => a - b);
    const p50 = tenths(latencies[latencies.length >> 1] ?? 0);
    this.#finish('post', `${latencies.length} single posts reached a socket in ${p50} ms (median)`);
    return { p50, max: tenths(latencies.at(-1) ?? 0) };
  }

  async #verify(embedded: EmbeddedCluster): Promise<DemoResult['verify']> {
    const { signal } = this.#options;
    const { cluster, cache } = embedded;
    await fanOutDrained(cluster, signal);
    const sockets = await this.#compareSockets(cluster);
    const checked = await verify(cluster.db, undefined, {
      signal,
      onProgress: (done, total) => this.#update({ fraction: done / total }),
    });
    let readsMismatched = 0;
    for (const { userId } of this.#watchers) if (!(await readsMatch(embedded, userId))) readsMismatched += 1;
    const { duplicates } = await verify(cluster.db, this.#watchers[0]!.userId, { cache });
    this.#finish(
      'verify',
      `${count(checked.checked)} feeds compared, ${checked.mismatched} differ; ` +
        `${count(sockets.expected)} pushes compared`,
    );
    return { ...checked, duplicates: checked.duplicates + duplicates, sockets, readsMismatched };
  }

  /** Compares what each socket got with all posts of the demo by authors whom its user follows. */
  async #compareSockets({ db }: Cluster): Promise<DemoResult['verify']['sockets']> {
    const watchers = this.#watchers;
    const expected = await expectedPushes(
      db,
      watchers.map((watcher) => watcher.userId),
    );
    const postsOf = ({ userId }: Watcher) => expected.get(userId) ?? new Set<number>();
    const missing = () =>
      sum(watchers.map((watcher) => [...postsOf(watcher)].filter((id) => !watcher.got(id)).length));
    // All rows are written, but the last frames may still be on the network.
    await this.#waitForPush(() => missing() === 0);
    let strangers = 0;
    let duplicates = 0;
    for (const watcher of watchers) {
      for (const [id, times] of watcher.posts) {
        if (!postsOf(watcher).has(id)) strangers += 1;
        duplicates += times - 1;
      }
    }
    const pushes = sum(watchers.map((watcher) => postsOf(watcher).size));
    return { expected: pushes, missing: missing(), strangers, duplicates };
  }

  #waitForPush(arrived: () => boolean): Promise<boolean> {
    const { signal } = this.#options;
    return poll(arrived, { everyMs: PUSH_POLL_MS, timeoutMs: PUSH_TIMEOUT_MS, signal });
  }

  #update(change: Partial<DemoSnapshot>): void {
    this.#snapshot = { ...this.#snapshot, ...change };
    this.#options.onUpdate(this.#snapshot);
  }

  #finish(step: DemoStep, result: string): void {
    this.#options.signal.throwIfAborted();
    const next = DEMO_STEPS[DEMO_STEPS.indexOf(step) + 1] ?? step;
    const { fraction: _, ...rest } = this.#snapshot;
    this.#snapshot = rest;
    this.#update({ step: next, done: { ...rest.done, [step]: result } });
  }
}

/** A user with an open socket, and the posts that arrived on it. */
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

/**
 * Reads a feed to its end as a client does, once from the table and once from the cache. Returns
 * whether both times it has exactly the expected posts, newest first.
 */
async function readsMatch(embedded: EmbeddedCluster, userId: number): Promise<boolean> {
  const { db } = embedded.cluster;
  const expected = (await expectedPushes(db, [userId], { own: true })).get(userId) ?? new Set<number>();
  for (const cache of [undefined, embedded.cache]) {
    const read: number[] = [];
    for (let cursor: string | null | undefined; cursor !== null; ) {
      const page = await readFeed(db, userId, { limit: PAGE, ...(cursor && { cursor }) }, cache);
      read.push(...page.items.map((item) => item.postId));
      cursor = page.nextCursor;
    }
    const newestFirst = read.every((id, i) => i === 0 || id < read[i - 1]!);
    if (!newestFirst || read.length !== expected.size || !read.every((id) => expected.has(id))) return false;
  }
  return true;
}

const count = (value: number): string => value.toLocaleString('en-US');
const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);
