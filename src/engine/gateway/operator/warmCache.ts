import type { FeedCache } from '../../cache/cache.ts';
import type { Database } from '../../database/database.ts';
import { readFeed } from '../../feed/read/read.ts';
import { readUserFile } from '../../files/userIds.ts';
import { FeedctlError, isFeedctlError, messageOf } from '../../model/errors.ts';
import { listGateways } from '../../store/processes.ts';
import { missingUsers } from '../../store/users.ts';
import { paceCalls } from '../../util/pace.ts';
import { runConcurrently } from '../../util/parallel.ts';
import { poll } from '../../util/poll.ts';
import type { ReadersAnswer } from '../routes/admin.ts';
import { signOperatorToken } from '../tokens.ts';
import { askGateway } from './connections.ts';

/** Loads at a time: the cache itself takes eight. */
const CONCURRENCY = 4;
/** What a reader sees first. */
const PAGE = 20;
const READY_POLL_MS = 50;
const READY_TIMEOUT_MS = 2_000;

export interface WarmResult {
  /** Feeds that are in the cache now. */
  readonly warmed: number;
  /** Those of them that had been there already. */
  readonly held: number;
  /** Feeds that could not be loaded, and why the first could not. */
  readonly failed: number;
  readonly reason: string | null;
  /** Users who were left out as the command was stopped. */
  readonly left: number;
  readonly seconds: number;
  readonly dryRun: boolean;
}

/** Whose feeds: named ones, those who read most, or those of a file. */
export type Readers =
  | { readonly users: readonly number[] }
  | { readonly hot: number }
  | { readonly file: string };

/**
 * Reads feeds into the cache that all gateways share, before their readers ask. A feed that is held stays as it is. Throws
 * CACHE_NOT_SHARED, CACHE_UNREACHABLE, USER_NOT_FOUND, GATEWAY_UNREACHABLE, or what reading the file throws, with nothing done.
 */
export async function warmCache(
  { db, sharedCache }: { db: Database; sharedCache: FeedCache | undefined },
  readers: Readers,
  options: {
    rate: number;
    dryRun: boolean;
    signal: AbortSignal;
    onProgress?: (done: number, total: number) => void;
  },
): Promise<WarmResult> {
  if (!sharedCache)
    throw new FeedctlError(
      'CACHE_NOT_SHARED',
      'the cache is in the memory of each gateway, and each gateway warms itself',
    );
  const startedAt = performance.now();
  const { rate, dryRun, signal, onProgress } = options;
  const users = await readersOf(db, readers);
  await requireReady(sharedCache);
  let warmed = 0;
  let held = 0;
  let failed = 0;
  let reason: string | null = null;
  let begun = 0;
  const warm = async (userId: number) => {
    if (signal.aborted) return;
    begun += 1;
    try {
      const there = await sharedCache.get(userId);
      if (there) held += 1;
      else if (!dryRun) {
        await paceCalls(begun - held, { rate, startedAt, signal });
        await readFeed(db, userId, { limit: PAGE }, sharedCache);
        // A page comes from the table where the cache does not take it.
        if (!(await sharedCache.get(userId)))
          throw new FeedctlError('CACHE_UNREACHABLE', 'the cache did not keep what was loaded');
      }
      warmed += 1;
    } catch (error) {
      if (signal.aborted) {
        begun -= 1;
        return;
      }
      // Erased meanwhile: nobody will ask.
      if (isFeedctlError(error, 'USER_NOT_FOUND')) return;
      failed += 1;
      reason ??= messageOf(error);
    }
    onProgress?.(begun, users.length);
  };
  await runConcurrently(users, CONCURRENCY, warm);
  return {
    warmed,
    held,
    failed,
    reason,
    left: users.length - begun,
    seconds: Math.round(performance.now() - startedAt) / 1_000,
    dryRun,
  };
}

/** Opening the cache does not wait for Redis to answer. A Redis that runs answers well within the timeout. */
async function requireReady(cache: FeedCache): Promise<void> {
  await poll(() => cache.health().ready, { everyMs: READY_POLL_MS, timeoutMs: READY_TIMEOUT_MS });
  const { ready, detail } = cache.health();
  if (!ready) throw new FeedctlError('CACHE_UNREACHABLE', `the cache cannot be used: ${detail}`);
}

async function readersOf(db: Database, readers: Readers): Promise<readonly number[]> {
  if ('file' in readers) return (await readUserFile(db, readers.file)).ids;
  if ('hot' in readers) return hotReaders(db, readers.hot);
  const [missing] = await missingUsers(db, readers.users);
  if (missing !== undefined) throw new FeedctlError('USER_NOT_FOUND', `there is no user ${missing}`);
  return readers.users;
}

/** Who read most at all gateways together, as these remember. Throws GATEWAY_UNREACHABLE where none answers. */
async function hotReaders(db: Database, count: number): Promise<number[]> {
  const gateways = await listGateways(db);
  const token = await signOperatorToken(db);
  const answers = await Promise.allSettled(
    gateways.map(({ url }) => askGateway<ReadersAnswer>(url, token, `/admin/readers?limit=${count}`)),
  );
  const reads = new Map<string, number>();
  for (const answer of answers) {
    if (answer.status === 'rejected') continue;
    for (const one of answer.value.readers) reads.set(one.userId, (reads.get(one.userId) ?? 0) + one.reads);
  }
  if (answers.every(({ status }) => status === 'rejected'))
    throw new FeedctlError(
      'GATEWAY_UNREACHABLE',
      gateways.length === 0
        ? 'no gateway is running, and gateways know who reads most'
        : `none of ${gateways.length} gateway(s) answers`,
    );
  const ids = [...reads]
    .sort((a, b) => b[1] - a[1])
    .slice(0, count)
    .map(([id]) => Number(id));
  const missing = new Set(await missingUsers(db, ids));
  return ids.filter((id) => !missing.has(id));
}
