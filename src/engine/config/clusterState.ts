import { readFileSync } from 'node:fs';
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { FeedctlError, messageOf } from '../model/errors.ts';
import { claim } from './claim.ts';

const stateSchema = z.object({
  /** The process of `feedctl up`. */
  pid: z.number().int().positive(),
  /** When that process started, as the kernel counts: tells it from a later one with the same pid. */
  processStart: z.string(),
  version: z.string(),
  startedAt: z.string(),
  databaseUrl: z.string().optional(),
  gatewayUrl: z.string().optional(),
});

/** What `feedctl up` leaves in its data directory so that other commands find it: `cluster.json`. */
export type ClusterState = z.infer<typeof stateSchema>;

const statePath = (dataDir: string) => join(dataDir, 'cluster.json');

interface ProcessStat {
  /** `Z` for a process that has ended and that its parent has not asked about yet. */
  readonly state: string;
  /** When it started, in ticks since the machine did. */
  readonly start: string;
}

/** Fields 3 and 22 of /proc/PID/stat; undefined where there is no /proc, and a pid has to do. */
function processStat(pid: number): ProcessStat | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return { state: fields[0] ?? '', start: fields[19] ?? '' };
  } catch {
    return undefined;
  }
}

function isAlive(state: Pick<ClusterState, 'pid' | 'processStart'>): boolean {
  try {
    process.kill(state.pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPERM') return false;
  }
  const stat = processStat(state.pid);
  return stat === undefined || (stat.state !== 'Z' && stat.start === state.processStart);
}

/** The state of the cluster that runs in this directory, or undefined: one that was killed is not running. */
export async function readClusterState(dataDir: string): Promise<ClusterState | undefined> {
  let text: string;
  try {
    text = await readFile(statePath(dataDir), 'utf8');
  } catch {
    return undefined;
  }
  return liveState(text);
}

/** What a file says, if whoever wrote it is still there. */
function liveState(text: string): ClusterState | undefined {
  const parsed = stateSchema.safeParse(safeJson(text));
  return parsed.success && isAlive(parsed.data) ? parsed.data : undefined;
}

function safeJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export interface ClusterLock {
  /** Tells other commands where things are; replaces the file in one step. */
  publish(urls: { databaseUrl: string; gatewayUrl?: string }): Promise<void>;
  release(): Promise<void>;
}

/**
 * Makes this process the one that runs the cluster of `dataDir`. Throws CLUSTER_ALREADY_RUNNING. What a process that
 * is gone has left is taken over; PostgreSQL's own lock on its directory has the last word.
 */
export async function lockCluster(dataDir: string, version: string): Promise<ClusterLock> {
  const path = statePath(dataDir);
  const state: ClusterState = {
    pid: process.pid,
    processStart: processStat(process.pid)?.start ?? '',
    version,
    startedAt: new Date().toISOString(),
  };
  const taken = await claim(dataDir, JSON.stringify(state), (text) => liveState(text) !== undefined);
  if ('heldBy' in taken) {
    const owner = liveState(taken.heldBy);
    throw new FeedctlError(
      'CLUSTER_ALREADY_RUNNING',
      `a cluster runs in ${dataDir} already (process ${owner?.pid}, since ${owner?.startedAt})`,
    );
  }
  const publish = async (urls: { databaseUrl?: string; gatewayUrl?: string }) => {
    const next = `${path}.new`;
    await writeFile(next, `${JSON.stringify({ ...state, ...urls }, null, 2)}\n`, { mode: 0o644 });
    await rename(next, path);
  };
  await publish({});
  return {
    publish,
    async release() {
      await rm(path, { force: true });
      await taken.release();
    },
  };
}

/** Asks the cluster of `dataDir` to stop and waits for it. False where none runs. Throws STOP_TIMEOUT. */
export async function stopCluster(dataDir: string, timeoutMs: number): Promise<boolean> {
  const state = await readClusterState(dataDir);
  if (!state) return false;
  try {
    process.kill(state.pid, 'SIGTERM');
  } catch (error) {
    throw new FeedctlError('STOP_TIMEOUT', `process ${state.pid} cannot be signalled: ${messageOf(error)}`, {
      cause: error,
    });
  }
  for (const until = Date.now() + timeoutMs; isAlive(state); await sleep(20)) {
    if (Date.now() > until)
      throw new FeedctlError('STOP_TIMEOUT', `process ${state.pid} has not stopped yet`);
  }
  return true;
}
