import type { Bus } from '../bus/bus.ts';
import { Database } from '../database/database.ts';
import { FeedctlError } from '../model/errors.ts';

const CONNECT_MS = 3_000;

export interface Readiness {
  /** Throws DATABASE_UNREACHABLE or another DATABASE_ code, TIMED_OUT or BROKER_UNREACHABLE. */
  check(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Whether a role can work: its database answers, and its broker, where it is one that needs it, is connected. With a session
 * of its own, as those for the work are all taken where there is much of it, which is no reason to be given none. Whoever
 * asks while that is found out shares the answer, and for `freshMs` after that: nobody counts who asks.
 */
export function openReadiness(
  { db, bus }: { readonly db: { readonly url: string }; readonly bus?: Pick<Bus, 'health'> },
  { freshMs = 0 }: { freshMs?: number } = {},
): Readiness {
  const own = new Database(db.url, {
    maxSessions: 1,
    connectMs: CONNECT_MS,
    applicationName: 'feedctl readiness',
  });
  const look = async () => {
    await own.ping();
    const health = await bus?.health?.();
    if (health && !health.ready) throw new FeedctlError('BROKER_UNREACHABLE', health.detail);
  };
  let asked: Promise<void> | undefined;
  let answeredAt = Number.POSITIVE_INFINITY;
  return {
    check() {
      // Less than nothing has passed since an answer that is still to come.
      if (asked && performance.now() - answeredAt < freshMs) return asked;
      answeredAt = Number.POSITIVE_INFINITY;
      asked = look().finally(() => {
        answeredAt = performance.now();
      });
      return asked;
    },
    close: () => own.close(),
  };
}
