import { readFileSync } from 'node:fs';
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FeedctlError, messageOf } from '../model/errors.ts';
import { isJsonObject, parseJson } from '../util/json.ts';
import { poll } from '../util/poll.ts';
import { isRunning } from '../util/process.ts';
import { claim } from './claim.ts';

/**
 * Content of `cluster.json` in the data directory of `feedctl up`. Other commands find the cluster
 * by it.
 */
export interface ClusterState {
  /** The process of `feedctl up`. */
  readonly pid: number;
  /**
   * Start time of that process as the kernel counts it. Distinguishes it from a later process with
   * the same pid.
   */
  readonly processStart: string;
  readonly version: string;
  readonly startedAt: string;
  readonly databaseUrl?: string | undefined;
  readonly gatewayUrl?: string | undefined;
  /** Broker and cache, if their URLs have no password. */
  readonly brokerUrl?: string | undefined;
  readonly cacheUrl?: string | undefined;
}

type Published = Pick<ClusterState, 'databaseUrl' | 'gatewayUrl' | 'brokerUrl' | 'cacheUrl'>;

const REQUIRED_TEXTS = ['processStart', 'version', 'startedAt'];
const OPTIONAL_TEXTS = ['databaseUrl', 'gatewayUrl', 'brokerUrl', 'cacheUrl'];

/** A file that was cut short, or that another program wrote, is no state. */
const isClusterState = (value: unknown): value is ClusterState =>
  isJsonObject(value) &&
  Number.isSafeInteger(value.pid) &&
  Number(value.pid) > 0 &&
  REQUIRED_TEXTS.every((name) => typeof value[name] === 'string') &&
  OPTIONAL_TEXTS.every((name) => value[name] === undefined || typeof value[name] === 'string');

const STOP_POLL_MS = 20;

const statePath = (dataDir: string) => join(dataDir, 'cluster.json');

interface ProcessStat {
  /** `Z` for a process that has ended and whose parent has not read its exit status. */
  readonly state: string;
  /** Start time in ticks since the machine booted. */
  readonly start: string;
}

/**
 * Returns fields 3 and 22 of /proc/PID/stat. Returns undefined without /proc: then the pid has to
 * suffice.
 */
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
  if (!isRunning(state.pid)) return false;
  const stat = processStat(state.pid);
  return stat === undefined || (stat.state !== 'Z' && stat.start === state.processStart);
}

/**
 * Returns the state of the cluster that runs in this directory. Returns undefined if its process
 * was killed.
 */
export async function readClusterState(dataDir: string): Promise<ClusterState | undefined> {
  let text: string;
  try {
    text = await readFile(statePath(dataDir), 'utf8');
  } catch {
    return undefined;
  }
  return liveState(text);
}

/** Returns the state in a file if its process still runs. */
function liveState(text: string): ClusterState | undefined {
  const state = parseJson(text);
  return isClusterState(state) && isAlive(state) ? state : undefined;
}

export interface ClusterLock {
  /** Publishes the URLs for other commands. Replaces the file in one step. */
  publish(urls: Published): Promise<void>;
  release(): Promise<void>;
}

/**
 * Locks `dataDir`, so that one process at a time runs its cluster. Takes over from a process that
 * was killed. PostgreSQL's own lock on its directory is the final protection. Throws
 * CLUSTER_ALREADY_RUNNING.
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
  if ('owner' in taken) {
    const owner = liveState(taken.owner);
    throw new FeedctlError(
      'CLUSTER_ALREADY_RUNNING',
      `a cluster runs in ${dataDir} already (process ${owner?.pid}, since ${owner?.startedAt})`,
    );
  }
  const publish = async (urls: Published) => {
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

/**
 * Stops the cluster of `dataDir` and waits for its end. Returns false if none runs. Throws
 * STOP_TIMEOUT.
 */
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
  const stopped = await poll(() => !isAlive(state), { everyMs: STOP_POLL_MS, timeoutMs });
  if (!stopped) throw new FeedctlError('STOP_TIMEOUT', `process ${state.pid} has not stopped yet`);
  return true;
}
