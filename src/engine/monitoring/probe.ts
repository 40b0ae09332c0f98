import type { Barrier } from '../bus/bus.ts';
import { barrierPassed } from '../bus/drained.ts';
import { markStale } from '../cache/changes.ts';
import { type Cluster, resolveGatewayUrl } from '../cluster/cluster.ts';
import { askConnections } from '../gateway/operator/connections.ts';
import type { ConnectionsAnswer } from '../gateway/routes/admin.ts';
import { signOperatorToken, signToken } from '../gateway/tokens.ts';
import { type FeedFollower, followFeed } from '../live/client.ts';
import { FeedctlError, messageOf } from '../model/errors.ts';
import { deletePost } from '../social/posts.ts';
import { newestPostsAbove } from '../store/posts.ts';
import { tenths } from '../util/numbers.ts';
import { poll } from '../util/poll.ts';
import { urlBelow } from '../util/urlBelow.ts';
import {
  erasePair,
  insertProbePair,
  leftoverPairs,
  type ProbePair,
  probeDispatched,
  traceProbe,
} from './probeSql.ts';

/** Stages of the live path, in order. */
export const PROBE_LEGS = ['created', 'dispatched', 'planned', 'written', 'pushed', 'seen'] as const;
export type ProbeLeg = (typeof PROBE_LEGS)[number];

const POLL_MS = 1;
/**
 * Rows of an interrupted probe are erased by the next one after this time, longer than any probe
 * takes.
 */
const LEFTOVER_MS = 15 * 60_000;
const CLEANUP_TIMEOUT_MS = 10_000;
const TEXT = 'a probe of feedctl';

export interface ProbeOptions {
  /** A post that takes longer from the request to the frame is late. */
  readonly maxMs: number;
  /** Maximum wait for the post. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

export interface ProbeResult {
  /** The post was seen within `maxMs`. */
  readonly ok: boolean;
  readonly gatewayUrl: string;
  readonly postId: number | null;
  /** Time from the request to the frame on the socket; null without a frame. */
  readonly totalMs: number | null;
  readonly maxMs: number;
  /**
   * `atMs`: milliseconds after the request, null where the post did not get that far. `tookMs`:
   * since the latest leg before. The database reports created and dispatched, the gateway reports
   * pushed. Planned and written are polled every few milliseconds, and are never later than seen.
   */
  readonly legs: readonly { leg: ProbeLeg; atMs: number | null; tookMs: number | null }[];
  /** The first leg that the post did not reach. */
  readonly stuckAt: ProbeLeg | null;
  readonly reason: string | null;
  /** Only events are left. Where the path is stuck, the next probe erases the rest. */
  readonly cleanedUp: boolean;
}

/**
 * Sends one post through the whole live path, from a temporary user to a follower on a WebSocket.
 * Throws GATEWAY_UNREACHABLE where no socket can be opened, and INTERRUPTED.
 */
export async function probe(cluster: Cluster, options: ProbeOptions): Promise<ProbeResult> {
  const { db, ids } = cluster;
  const gatewayUrl = await resolveGatewayUrl(cluster);
  const [authorId, readerId] = (await ids.take(2)) as [number, number];
  const pair = { authorId, readerId };
  let result: Omit<ProbeResult, 'cleanedUp'>;
  let cleanedUp = false;
  try {
    await insertProbePair(db, pair);
    result = await run(cluster, gatewayUrl, pair, options);
  } finally {
    cleanedUp = await cleanUp(cluster, pair);
  }
  if (options.signal.aborted)
    throw new FeedctlError('INTERRUPTED', 'the probe was interrupted', { suggestions: [] });
  return { ...result, cleanedUp };
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
  const elapsed = () => performance.now() - startedAt;
  const reach = (leg: ProbeLeg, ms: number) => {
    at[leg] ??= Math.max(0, ms);
  };
  const socket: FeedFollower = await followFeed(gatewayUrl, await signToken(db, pair.readerId), (post) => {
    if (Number(post.author_user_id) === pair.authorId) reach('seen', elapsed());
  });
  void socket.closed.then((cause) => {
    if (at.seen === undefined) reason = `the gateway closed the socket: ${cause}`;
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
    await watch(cluster, pair, { at, reach, elapsed, stopped: () => end.aborted || reason !== null });
    // The answer is sent before the frame, but may be read after it.
    await posting;
    const [session] = await sessionsOf(cluster, gatewayUrl, pair.readerId).catch(() => []);
    if (session?.lastDeliveredMsAgo != null)
      reach('pushed', Math.min(elapsed() - session.lastDeliveredMsAgo, at.seen ?? Number.POSITIVE_INFINITY));
  } finally {
    socket.close();
  }
  // A leg that was reached implies the legs before it, even unobserved ones.
  const last = PROBE_LEGS.findLastIndex((leg) => at[leg] !== undefined);
  const stuckAt = PROBE_LEGS[last + 1] ?? null;
  if (stuckAt !== null && reason === null) reason = `the post did not get further within ${timeoutMs} ms`;
  const totalMs = at.seen === undefined ? null : tenths(at.seen);
  if (totalMs !== null && totalMs > maxMs) reason = `late: ${totalMs} ms, the limit is ${maxMs} ms`;
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

/** Resolves when the post has been seen and every leg is known, or when the probe has stopped. */
async function watch(
  { db, bus }: Cluster,
  pair: ProbePair,
  path: {
    at: Partial<Record<ProbeLeg, number>>;
    reach: (leg: ProbeLeg, ms: number) => void;
    elapsed: () => number;
    stopped: () => boolean;
  },
): Promise<void> {
  const { at, reach, elapsed, stopped } = path;
  let barrier: Barrier | undefined;
  const isDone = async (): Promise<boolean> => {
    const [trace, planned] = await Promise.all([traceProbe(db, pair), barrier && bus.hasPassed(barrier)]);
    const now = elapsed();
    const latest = Math.min(now, at.seen ?? now);
    if (trace.createdAgoMs !== null) reach('created', now - trace.createdAgoMs);
    if (trace.dispatchedAgoMs !== null) {
      reach('dispatched', now - trace.dispatchedAgoMs);
      // When the barrier has passed, everything published before it has been planned, this post
      // too.
      barrier ??= await bus.placeBarrier(['events']);
    }
    if (planned || trace.written) reach('planned', latest);
    if (trace.written) reach('written', latest);
    return at.seen !== undefined && at.written !== undefined && at.dispatched !== undefined;
  };
  await poll(() => stopped() || isDone(), { everyMs: POLL_MS });
}

/** Lists the reader's sockets at the gateway that is probed. */
async function sessionsOf(
  { db }: Cluster,
  gatewayUrl: string,
  readerId: number,
): Promise<ConnectionsAnswer['connections']> {
  const token = await signOperatorToken(db);
  return (await askConnections({ url: gatewayUrl }, token, `user=${readerId}`)).connections;
}

async function post(gatewayUrl: string, token: string, signal: AbortSignal): Promise<number> {
  const response = await fetch(urlBelow(gatewayUrl, '/post/create'), {
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
  return { leg, atMs: tenths(own), tookMs: tenths(Math.max(0, own - Math.max(0, ...before))) };
}

/**
 * Deletes the post, waits until everything planned before has been written, and erases both users
 * and those of earlier interrupted probes. Returns false where the path is stuck: rows that are
 * written later would belong to no user.
 */
async function cleanUp(cluster: Cluster, pair: ProbePair): Promise<boolean> {
  const { db, bus } = cluster;
  try {
    for (const postId of await newestPostsAbove(db, pair.authorId, 0, 10))
      await deletePost(cluster, postId, { authorId: pair.authorId });
    const end = AbortSignal.timeout(CLEANUP_TIMEOUT_MS);
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
