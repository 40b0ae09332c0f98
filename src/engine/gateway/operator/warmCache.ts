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

/** Loads at the same time. The cache takes up to eight. */
const CONCURRENCY = 4;
/** Posts of a reader's first page. */
const PAGE_LIMIT = 20;
const READY_POLL_MS = 50;
const READY_TIMEOUT_MS = 2_000;

export interface WarmResult {
  /** Feeds that are cached now. */
  readonly warmed: number;
  /** Feeds that were cached already. */
  readonly held: number;
  /** Feeds that could not be loaded. */
  readonly failed: number;
  /** Why the first of them could not be loaded. */
  readonly reason: string | null;
  /** Users who were left because the command was stopped. */
  readonly left: number;
  readonly seconds: number;
  readonly dryRun: boolean;
}

/** Readers: named users, those who read most, or those of a file. */
export type Readers =
  | { readonly users: readonly number[] }
  | { readonly hot: number }
  | { readonly file: string };

/**
 * Loads feeds into the shared cache before their readers need them. A feed that is cached stays as
 * it is. Throws CACHE_NOT_SHARED, CACHE_UNREACHABLE, USER_NOT_FOUND, GATEWAY_UNREACHABLE, GATEWAY_OTHER,
 * or an error of the file, before anything is loaded.
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
      if (await sharedCache.get(userId)) held += 1;
      else if (!dryRun) {
        await paceCalls(begun - held, { rate, startedAt, signal });
        await readFeed(db, userId, { limit: PAGE_LIMIT }, sharedCache);
        // Reading succeeds without the cache, so the result is checked.
        if (!(await sharedCache.get(userId)))
          throw new FeedctlError('CACHE_UNREACHABLE', 'the cache did not keep the loaded feed');
      }
      warmed += 1;
    } catch (error) {
      if (signal.aborted) {
        begun -= 1;
        return;
      }
      // An erased user has no feed.
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

/**
 * Opening the cache does not wait for Redis to answer. A Redis that runs answers well within the
 * timeout.
 */
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

/**
 * Returns the users with most reads at all gateways together. Throws the first gateway's failure if none
 * answers.
 */
async function hotReaders(db: Database, count: number): Promise<number[]> {
  const gateways = await listGateways(db);
  const token = await signOperatorToken(db);
  const answers = await Promise.allSettled(
    gateways.map((gateway) => askGateway<ReadersAnswer>(gateway, token, `/admin/readers?limit=${count}`)),
  );
  const reads = new Map<string, number>();
  for (const answer of answers) {
    if (answer.status === 'rejected') continue;
    for (const one of answer.value.readers) reads.set(one.userId, (reads.get(one.userId) ?? 0) + one.reads);
  }
  if (gateways.length === 0)
    throw new FeedctlError('GATEWAY_UNREACHABLE', 'no gateway is running: gateways count who reads most');
  const refused = answers.filter((answer) => answer.status === 'rejected');
  if (refused.length === gateways.length) throw refused[0]!.reason;
  const ids = [...reads]
    .sort((a, b) => b[1] - a[1])
    .slice(0, count)
    .map(([id]) => Number(id));
  const missing = new Set(await missingUsers(db, ids));
  return ids.filter((id) => !missing.has(id));
}
