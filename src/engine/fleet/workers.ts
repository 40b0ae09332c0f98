import { hostname } from 'node:os';
import type { Queryable } from '../database/database.ts';
import { readWorkerStats, UNKNOWN_WORKER, type WorkerStats } from '../stats/table.ts';
import { listWorkers, type WorkerRow } from '../store/processes.ts';
import { isRunning } from '../util/process.ts';
import { isAlive } from './gateways.ts';

/** `there`: it is alive. `ready`: it is alive and can use its broker, as its `/readyz` reports. */
export type RegisteredWorker = WorkerRow & { readonly there: boolean; readonly ready: boolean };

export type WorkerState = RegisteredWorker & WorkerStats;

/**
 * Returns every worker that has registered and not left, the oldest first, by its heartbeats alone.
 */
export async function registeredWorkers(db: Queryable): Promise<RegisteredWorker[]> {
  return (await listWorkers(db)).map((row) => {
    const there = isAlive(row) && !hasExited(row);
    return Object.assign(row, { there, ready: there && row.live });
  });
}

/** Returns registered workers with the statistics of their processes. */
export async function workerStates(db: Queryable): Promise<WorkerState[]> {
  const [workers, stats] = await Promise.all([registeredWorkers(db), readWorkerStats(db)]);
  return workers.map((worker) => Object.assign(worker, stats.get(worker.id) ?? UNKNOWN_WORKER));
}

/** The end of a process of this machine is known before its heartbeats time out. */
const hasExited = ({ host, pid }: WorkerRow): boolean => host === hostname() && !isRunning(pid);
