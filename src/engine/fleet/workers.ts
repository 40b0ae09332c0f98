import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Database, Queryable } from '../database/database.ts';
import { FeedctlError } from '../model/errors.ts';
import type { Resources } from '../resilience/resources.ts';
import { listWorkers, type WorkerRow } from '../store/processes.ts';
import { isAlive } from './gateways.ts';

/** How a worker is asked to end: the payload is its id. */
const DRAIN_CHANNEL = 'feedctl_worker_drain';
const POLL_MS = 100;
/** A notification is lost where the worker's session was being replaced. */
const NOTIFY_INTERVAL_MS = 1_000;

/** `there`: it has been heard of. `ready`: it is there, and can use its broker: what its `/readyz` says. */
export type WorkerState = WorkerRow & { readonly there: boolean; readonly ready: boolean };

/** Every worker that has registered and not left, oldest first. */
export async function workerStates(db: Queryable): Promise<WorkerState[]> {
  return (await listWorkers(db)).map((row) => {
    const there = isAlive(row) && !isGone(row);
    return Object.assign(row, { there, ready: there && row.live });
  });
}

/** Of a process of this machine one need not wait for its silence. */
function isGone({ host, pid }: WorkerRow): boolean {
  if (host !== hostname()) return false;
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}

/** The worker's side: what it returns resolves when somebody has asked this worker to end. */
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
  readonly worker: WorkerState;
  /** Other workers that are heard of: they go on with its work. */
  readonly others: number;
}

/** Throws WORKER_NOT_FOUND, or USAGE for one that is part of a bigger process. */
export async function planWorkerDrain(db: Queryable, id: string): Promise<WorkerDrainPlan> {
  const workers = await workerStates(db);
  const worker = workers.find((one) => one.id === id);
  if (!worker) throw new FeedctlError('WORKER_NOT_FOUND', `there is no worker ${id}`);
  if (!worker.there)
    throw new FeedctlError(
      'WORKER_NOT_FOUND',
      `the worker ${id} is not there any more: it left its row behind`,
    );
  if (!worker.drainable)
    throw new FeedctlError('USAGE', 'this worker is part of `feedctl up`, which `feedctl down` stops');
  return { worker, others: workers.filter((one) => one !== worker && one.there).length };
}

/**
 * Lets one worker end as a SIGTERM does: it takes no more messages, finishes what it holds, gives the rest back, and its
 * process exits with 0. Resolves when it has left. Throws STOP_TIMEOUT.
 */
export async function drainWorker(
  db: Queryable,
  id: string,
  options: { timeoutMs: number; signal: AbortSignal },
): Promise<{ seconds: number }> {
  const startedAt = performance.now();
  const seconds = () => Math.round((performance.now() - startedAt) / 100) / 10;
  for (let askedAt = Number.NEGATIVE_INFINITY; ; ) {
    if (!(await listWorkers(db)).some((row) => row.id === id)) return { seconds: seconds() };
    if (performance.now() - startedAt > options.timeoutMs)
      throw new FeedctlError(
        'STOP_TIMEOUT',
        `worker ${id} was asked to end, and has not left after ${seconds()} s`,
      );
    if (performance.now() - askedAt > NOTIFY_INTERVAL_MS) {
      await db.query('select pg_notify($1, $2)', [DRAIN_CHANNEL, id]);
      askedAt = performance.now();
    }
    await sleep(POLL_MS, undefined, { signal: options.signal });
  }
}
