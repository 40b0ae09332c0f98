import { setTimeout as sleep } from 'node:timers/promises';
import type { Barrier } from '../bus/bus.ts';
import { barrierPassed } from '../bus/drained.ts';
import { markStale } from '../cache/changes.ts';
import { type Cluster, resolveGatewayUrl } from '../cluster/cluster.ts';
import { askGateway } from '../gateway/operator/connections.ts';
import type { ConnectionsAnswer } from '../gateway/routes/admin.ts';
import { signOperatorToken, signToken } from '../gateway/tokens.ts';
import { type FeedFollower, followFeed } from '../live/client.ts';
import { FeedctlError, messageOf } from '../model/errors.ts';
import { deletePost } from '../social/posts.ts';
import { newestPostsAbove } from '../store/posts.ts';
import { poll } from '../util/poll.ts';
import {
  erasePair,
  insertProbePair,
  leftoverPairs,
  type ProbePair,
  probeDispatched,
  traceProbe,
} from './probeSql.ts';

/** In the order in which a post takes them. */
export const PROBE_LEGS = ['created', 'dispatched', 'planned', 'written', 'pushed', 'seen'] as const;
export type ProbeLeg = (typeof PROBE_LEGS)[number];

const POLL_MS = 1;
/** What a probe that has not ended well may leave is erased by the next one; longer than any probe takes. */
const LEFTOVER_MS = 15 * 60_000;
const CLEANUP_MS = 10_000;
const TEXT = 'a probe of feedctl';

export interface ProbeOptions {
  /** Later than this after the request, and the post is late. */
  readonly maxMs: number;
  /** Until when a post is waited for. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

export interface ProbeResult {
  /** The post was seen, and in time. */
  readonly ok: boolean;
  readonly gatewayUrl: string;
  readonly postId: number | null;
  /** From the request to the frame on the socket; null where none came. */
  readonly totalMs: number | null;
  readonly maxMs: number;
  /**
   * `atMs`: milliseconds after the request, null where the post has not come so far; `tookMs`: since the latest leg before.
   * Created and dispatched are told by the database, pushed by the gateway; planned and written are looked for every few milliseconds, and no later
   * than seen.
   */
  readonly legs: readonly { leg: ProbeLeg; atMs: number | null; tookMs: number | null }[];
  /** The first leg that the post did not take. */
  readonly stuckAt: ProbeLeg | null;
  readonly reason: string | null;
  /** Nothing but the events is left. Where the path is stuck, what is left is erased by the next probe. */
  readonly cleanedUp: boolean;
}

/**
 * One post through the whole live path, by a user made for it, to another one who follows them and listens on a WebSocket.
 * Throws GATEWAY_UNREACHABLE where no socket can be opened, and INTERRUPTED.
 */
export async function probe(cluster: Cluster, options: ProbeOptions): Promise<ProbeResult> {
  const { db, ids } = cluster;
  const gatewayUrl = await resolveGatewayUrl(cluster.config, db);
  const [authorId, readerId] = (await ids.take(2)) as [number, number];
  const pair = { authorId, readerId };
  let ran: Omit<ProbeResult, 'cleanedUp'>;
  let cleanedUp = false;
  try {
    await insertProbePair(db, pair);
    ran = await run(cluster, gatewayUrl, pair, options);
  } finally {
    cleanedUp = await cleanUp(cluster, pair);
  }
  if (options.signal.aborted)
    throw new FeedctlError('INTERRUPTED', 'the probe was interrupted', { suggestions: [] });
  return { ...ran, cleanedUp };
}

async function run(
  cluster: Cluster,
  gatewayUrl: string,
  pair: ProbePair,
  { maxMs, timeoutMs, signal }: ProbeOptions,
): Promise<Omit<ProbeResult, 'cleanedUp'>> {
  const { db } = cluster;
  const at: Partial<Record<ProbeLeg, number>> = {};
  let reason: string | null = null;
  let postId: number | null = null;
  let startedAt = 0;
  const since = () => performance.now() - startedAt;
  const reach = (leg: ProbeLeg, ms: number) => {
    at[leg] ??= Math.max(0, ms);
  };
  const socket: FeedFollower = await followFeed(gatewayUrl, await signToken(db, pair.readerId), (post) => {
    if (Number(post.author_user_id) === pair.authorId) reach('seen', since());
  });
  void socket.closed.then((why) => {
    if (at.seen === undefined) reason = `the gateway closed the socket: ${why}`;
  });
  try {
    const token = await signToken(db, pair.authorId);
    startedAt = performance.now();
    const end = AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]);
    const posting = post(gatewayUrl, token, end).then(
      (id) => {
        postId = id;
      },
      (error) => {
        if (!end.aborted) reason = `the post was refused: ${messageOf(error)}`;
      },
    );
    await watch(cluster, pair, { at, reach, since, end, failed: () => reason !== null });
    // Its answer comes before the frame, and may be read after it.
    await posting;
    const [session] = await sessionsOf(cluster, gatewayUrl, pair.readerId).catch(() => []);
    if (session?.lastDeliveredMsAgo != null)
      reach('pushed', Math.min(since() - session.lastDeliveredMsAgo, at.seen ?? Number.POSITIVE_INFINITY));
  } finally {
    socket.close();
  }
  // Whoever has seen it has passed the legs before, whether these were seen or not.
  const last = PROBE_LEGS.findLastIndex((leg) => at[leg] !== undefined);
  const stuckAt = PROBE_LEGS[last + 1] ?? null;
  if (stuckAt !== null && reason === null) reason = `nothing after ${timeoutMs} ms`;
  const totalMs = at.seen === undefined ? null : round(at.seen);
  if (totalMs !== null && totalMs > maxMs) reason = `late: ${totalMs} ms, at most ${maxMs} were asked for`;
  return {
    ok: totalMs !== null && totalMs <= maxMs,
    gatewayUrl,
    postId,
    totalMs,
    maxMs,
    legs: PROBE_LEGS.map((leg) => legOf(leg, at)),
    stuckAt,
    reason,
  };
}

/** Resolves when the post has been seen and every leg is known, at the end, or where posting has failed. */
async function watch(
  { db, bus }: Cluster,
  pair: ProbePair,
  path: {
    at: Partial<Record<ProbeLeg, number>>;
    reach: (leg: ProbeLeg, ms: number) => void;
    since: () => number;
    end: AbortSignal;
    failed: () => boolean;
  },
): Promise<void> {
  const { at, reach, since, end } = path;
  let barrier: Barrier | undefined;
  while (!end.aborted && !path.failed()) {
    const [trace, planned] = await Promise.all([traceProbe(db, pair), barrier && bus.hasPassed(barrier)]);
    const now = since();
    const latest = Math.min(now, at.seen ?? now);
    if (trace.createdAgoMs !== null) reach('created', now - trace.createdAgoMs);
    if (trace.dispatchedAgoMs !== null) {
      reach('dispatched', now - trace.dispatchedAgoMs);
      // Everything published before the mark has been planned when it has passed, this post too.
      barrier ??= await bus.placeBarrier(['events']);
    }
    if (planned || trace.written) reach('planned', latest);
    if (trace.written) reach('written', latest);
    if (at.seen !== undefined && at.written !== undefined && at.dispatched !== undefined) return;
    await sleep(POLL_MS);
  }
}

/** The reader's sockets, as the gateway that was probed lists them. */
async function sessionsOf(
  { db }: Cluster,
  gatewayUrl: string,
  readerId: number,
): Promise<ConnectionsAnswer['connections']> {
  const path = `/admin/connections?user=${readerId}`;
  const token = await signOperatorToken(db);
  return (await askGateway<ConnectionsAnswer>(gatewayUrl, token, path)).connections;
}

async function post(gatewayUrl: string, token: string, signal: AbortSignal): Promise<number> {
  const response = await fetch(new URL('/post/create', gatewayUrl), {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ text: TEXT }),
    signal,
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`HTTP ${response.status} ${text.slice(0, 200)}`);
  return Number((JSON.parse(text) as { id: string }).id);
}

function legOf(leg: ProbeLeg, at: Partial<Record<ProbeLeg, number>>): ProbeResult['legs'][number] {
  const own = at[leg];
  if (own === undefined) return { leg, atMs: null, tookMs: null };
  const before = PROBE_LEGS.slice(0, PROBE_LEGS.indexOf(leg)).map((one) => at[one] ?? 0);
  return { leg, atMs: round(own), tookMs: round(Math.max(0, own - Math.max(0, ...before))) };
}

/**
 * Deletes the post, waits until everything planned before has been written, and erases both users, those of probes that
 * failed before too. False where the path is stuck: rows that came later would be nobody's.
 */
async function cleanUp(cluster: Cluster, pair: ProbePair): Promise<boolean> {
  const { db, bus } = cluster;
  try {
    for (const postId of await newestPostsAbove(db, pair.authorId, 0, 10))
      await deletePost(cluster, postId, { authorId: pair.authorId });
    const end = AbortSignal.timeout(CLEANUP_MS);
    await poll(() => probeDispatched(db, pair.authorId), { firstMs: 10, everyMs: 200, signal: end });
    for (const queue of ['events', 'rows.live'] as const) await barrierPassed(bus, [queue], end);
    const pairs = [pair, ...(await leftoverPairs(db, LEFTOVER_MS))];
    for (const one of pairs) await erasePair(db, one);
    const users = pairs.flatMap(({ authorId, readerId }) => [authorId, readerId]);
    await markStale(cluster, users);
    return true;
  } catch (error) {
    cluster.log.warn({ ...pair, reason: messageOf(error) }, 'the probe was not cleaned up');
    return false;
  }
}

const round = (ms: number): number => Math.round(ms * 10) / 10;
