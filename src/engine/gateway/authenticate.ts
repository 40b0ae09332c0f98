import type { Database } from '../database/database.ts';
import { FeedctlError } from '../model/errors.ts';
import { missingUsers } from '../store/users.ts';
import { batchCalls } from '../util/batch.ts';
import type { Limiter } from './rateLimits.ts';
import { takeTicket } from './tickets.ts';
import { TOKEN_SECONDS, type Tokens } from './tokens.ts';

/** Maximum number of users in one statement, for sockets that open at the same time. */
const USERS_A_QUERY = 1_000;

/** A user, and the end of their admission in unix milliseconds. */
export interface Admitted {
  readonly userId: number;
  readonly until: number;
}

/**
 * Returns a function that checks the `ticket` or the `token` in the query of a WebSocket, and
 * counts the request. It throws INVALID_TOKEN or RATE_LIMITED.
 */
export function openAuthentication(context: {
  db: Database;
  tokens: Tokens;
  limiter: Limiter;
}): (query: URLSearchParams, address: string) => Promise<Admitted> {
  const { db, tokens, limiter } = context;
  const exists = batchCalls(USERS_A_QUERY, async (ids: readonly number[]) => {
    const missing = await db.retry(() => missingUsers(db, [...new Set(ids)]));
    return ids.map((id) => !missing.includes(id));
  });
  return async (query, ip) => {
    const unauthenticated = { ip, userId: undefined, writes: false };
    const ticket = query.get('ticket');
    if (ticket !== null) {
      // Counted first: invented tickets must not cost a statement each.
      await limiter.admit(unauthenticated);
      return { userId: await takeTicket(db, ticket), until: Date.now() + TOKEN_SECONDS * 1_000 };
    }
    const admitted = await tokens.checkOnce(query.get('token') ?? '').catch(async (error) => {
      await limiter.admit(unauthenticated);
      throw error;
    });
    // Counted as a request: a socket costs more than one, as it is announced and may read the feed.
    await limiter.admit({ ...unauthenticated, userId: admitted.userId });
    // A token outlives an erased user.
    if (!(await exists('', admitted.userId)))
      throw new FeedctlError('INVALID_TOKEN', `user ${admitted.userId} no longer exists`);
    return admitted;
  };
}
