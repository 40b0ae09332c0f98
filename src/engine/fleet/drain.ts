import type { Database, Queryable } from '../database/database.ts';
import { FeedctlError } from '../model/errors.ts';
import type { Resources } from '../resilience/resources.ts';
import { listWorkers } from '../store/processes.ts';
import { secondsSince } from '../util/numbers.ts';
import { poll } from '../util/poll.ts';
import { byShortId } from './shortIds.ts';
import { type RegisteredWorker, registeredWorkers } from './workers.ts';

/** A worker is asked to end by a notification with its id as payload. */
const DRAIN_CHANNEL = 'feedctl_worker_drain';
const POLL_MS = 100;
/** The request is repeated: a notification is lost while the worker's session is being replaced. */
const NOTIFY_INTERVAL_MS = 1_000;

/** Listens on the worker's side. `ended` resolves when an operator has asked this worker to end. */
export async function drainAsked(
  db: Database,
  resources: Resources,
  workerId: string,
): Promise<{ readonly ended: Promise<void> }> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const listener = await db.listen([DRAIN_CHANNEL], {
    onNotify: (_, payload) => {
      if (payload === workerId) resolve();
    },
  });
  resources.add('drain requests', () => listener.close());
  return { ended: promise };
}

export interface WorkerDrainPlan {
  readonly worker: RegisteredWorker;
  /** Other workers that are alive and take over its work. */
  readonly others: number;
}

/**
 * Plans the drain of a worker whose id is, or begins with, `text`. Throws WORKER_NOT_FOUND, or USAGE for
 * several workers and for one that is part of a bigger process.
 */
export async function planWorkerDrain(db: Queryable, text: string): Promise<WorkerDrainPlan> {
  const workers = await registeredWorkers(db);
  const worker = byShortId(workers, text, 'worker');
  if (!worker.there)
    throw new FeedctlError(
      'WORKER_NOT_FOUND',
      `the worker ${worker.id} does not run any more: only its row in the database is left`,
    );
  if (!worker.drainable)
    throw new FeedctlError('USAGE', 'this worker is part of `feedctl up`, which `feedctl down` stops');
  return { worker, others: workers.filter((one) => one !== worker && one.there).length };
}

/**
 * Ends one worker as a SIGTERM does: it takes no more messages, finishes those in flight, requeues
 * the rest, and its process exits with 0. Resolves when the worker has left. Throws STOP_TIMEOUT.
 */
export async function drainWorker(
  db: Queryable,
  id: string,
  { timeoutMs, signal }: { timeoutMs: number; signal: AbortSignal },
): Promise<{ seconds: number }> {
  const startedAt = performance.now();
  let askedAt = Number.NEGATIVE_INFINITY;
  const hasLeft = async () => {
    if (!(await listWorkers(db)).some((row) => row.id === id)) return true;
    if (performance.now() - askedAt > NOTIFY_INTERVAL_MS) {
      await db.query('select pg_notify($1, $2)', [DRAIN_CHANNEL, id]);
      askedAt = performance.now();
    }
    return false;
  };
  if (!(await poll(hasLeft, { everyMs: POLL_MS, timeoutMs, signal })))
    throw new FeedctlError(
      'STOP_TIMEOUT',
      `worker ${id} was asked to end, and has not left after ${secondsSince(startedAt)} s`,
    );
  return { seconds: secondsSince(startedAt) };
}
