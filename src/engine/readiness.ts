import type { Bus } from './bus/bus.ts';
import { FeedctlError } from './model/errors.ts';
import { Database } from './store/database.ts';

/** An answer may be so old: however many ask, the servers are asked once in that time. */
const FRESH_MS = 1_000;
const CONNECT_MS = 3_000;

export interface Readiness {
  /** Throws DATABASE_UNREACHABLE or another DATABASE_ code, TIMED_OUT or BROKER_UNREACHABLE. */
  check(): Promise<void>;
  close(): Promise<void>;
}

/**
 * Whether a worker can work: its database answers, and its broker is connected. With a session of its own, as those for the
 * work are all taken where there is much of it, which is no reason to be given none.
 */
export function openReadiness({ db, bus }: { db: { readonly url: string }; bus: Bus }): Readiness {
  const own = new Database(db.url, {
    maxSessions: 1,
    connectMs: CONNECT_MS,
    applicationName: 'feedctl readiness',
  });
  const look = async () => {
    await own.ping();
    const health = await bus.health?.();
    if (health && !health.ready) throw new FeedctlError('BROKER_UNREACHABLE', health.detail);
  };
  let answer: Promise<void> | undefined;
  let answeredAt = Number.NEGATIVE_INFINITY;
  let answered = true;
  return {
    check() {
      if (answered && performance.now() - answeredAt > FRESH_MS) {
        answered = false;
        const asked = look();
        answer = asked;
        const note = () => {
          answered = true;
          answeredAt = performance.now();
        };
        asked.then(note, note);
      }
      return answer!;
    },
    close: () => own.close(),
  };
}
