import { FeedctlError, isFeedctlError } from '../model/errors.ts';
import { poll } from '../util/poll.ts';
import type { Kubernetes } from './client.ts';
import type { KubeObject } from './object.ts';

/** Watches stop without a word, so what is waited for is looked at again and again. */
const POLL_MS = 500;

export interface Condition {
  readonly type: string;
  readonly status: string;
  readonly reason?: string;
  readonly message?: string;
}

export interface Deployment extends KubeObject {
  readonly spec: { replicas?: number; selector: { matchLabels?: Record<string, string> } };
  readonly status?: {
    observedGeneration?: number;
    replicas?: number;
    updatedReplicas?: number;
    readyReplicas?: number;
    availableReplicas?: number;
    conditions?: Condition[];
  };
}

export interface Job extends KubeObject {
  readonly status?: { conditions?: Condition[]; failed?: number };
}

/** The condition of a Job that has come true, or undefined. */
export const conditionOf = ({ status }: Job, type: 'Complete' | 'Failed'): Condition | undefined =>
  status?.conditions?.find((one) => one.type === type && one.status === 'True');

export interface Rollout {
  readonly name: string;
  /** Pods that there should be. */
  readonly desired: number;
  /** Of the newest template. */
  readonly updated: number;
  readonly ready: number;
  readonly available: number;
  /** Every pod is of the newest template and available, and no other is left. */
  readonly done: boolean;
  /** Why it does not go on. */
  readonly stuck: string | null;
}

export function rolloutOf({ metadata, spec, status = {} }: Deployment): Rollout {
  const desired = spec.replicas ?? 1;
  const { updatedReplicas = 0, readyReplicas = 0, availableReplicas = 0, replicas = 0 } = status;
  const seen = (status.observedGeneration ?? 0) >= (metadata.generation ?? 0);
  const condition = (type: string) => status.conditions?.find((one) => one.type === type);
  const progressing = condition('Progressing');
  const failing = condition('ReplicaFailure');
  // Until the newest template has been seen, conditions are about the one before.
  const stuck = !seen
    ? null
    : failing?.status === 'True'
      ? (failing.message ?? 'pods cannot be made')
      : progressing?.reason === 'ProgressDeadlineExceeded'
        ? (progressing.message ?? 'it takes too long')
        : null;
  const all = updatedReplicas >= desired && availableReplicas >= desired && replicas <= desired;
  return {
    name: metadata.name,
    desired,
    updated: updatedReplicas,
    ready: readyReplicas,
    available: availableReplicas,
    done: seen && all,
    stuck,
  };
}

export interface Waiting {
  readonly timeoutMs: number;
  readonly onProgress?: ((rollouts: readonly Rollout[]) => void) | undefined;
}

/** Until each deployment (by path) has rolled out. Throws KUBE_ROLLOUT_FAILED when the time is up, or one cannot go on. */
export async function waitForRollouts(
  kubernetes: Kubernetes,
  paths: readonly string[],
  { timeoutMs, onProgress }: Waiting,
): Promise<Rollout[]> {
  return waitFor(kubernetes, timeoutMs, async (late) => {
    const rollouts: Rollout[] = [];
    for (const path of paths) rollouts.push(rolloutOf(await kubernetes.get<Deployment>(path)));
    onProgress?.(rollouts);
    const open = rollouts.filter(({ done }) => !done);
    const stuck = open.find((one) => one.stuck !== null);
    if (stuck) throw new FeedctlError('KUBE_ROLLOUT_FAILED', `Deployment/${stuck.name}: ${stuck.stuck}`);
    if (open.length === 0) return rollouts;
    if (!late) return undefined;
    const rest = open.map(({ name, desired, updated, available }) => {
      const counts = `${updated} of ${desired} pod(s) of the new template, ${available} available`;
      return `Deployment/${name}: ${counts}`;
    });
    throw new FeedctlError(
      'KUBE_ROLLOUT_FAILED',
      `not rolled out after ${Math.round(timeoutMs / 1_000)} s: ${rest.join('; ')}`,
    );
  });
}

/** Until a Job has ended well. Throws KUBE_ROLLOUT_FAILED with what its last pod said. */
export async function waitForJob(kubernetes: Kubernetes, path: string, timeoutMs: number): Promise<void> {
  await waitFor(kubernetes, timeoutMs, async (late) => {
    const job = await kubernetes.get<Job>(path);
    if (conditionOf(job, 'Complete')) return true;
    const failed = conditionOf(job, 'Failed');
    if (!failed && !late) return undefined;
    const said = await lastWords(kubernetes, job).catch(() => '');
    const why = failed
      ? `has failed: ${failed.message ?? failed.reason}`
      : `has not ended after ${Math.round(timeoutMs / 1_000)} s`;
    throw new FeedctlError('KUBE_ROLLOUT_FAILED', `Job/${job.metadata.name} ${why}${said && `; ${said}`}`);
  });
}

/** Until an object is gone. */
export async function waitUntilGone(kubernetes: Kubernetes, path: string, timeoutMs: number): Promise<void> {
  await waitFor(kubernetes, timeoutMs, async (late) => {
    if (!(await kubernetes.exists(path))) return true;
    if (!late) return undefined;
    throw new FeedctlError(
      'KUBE_ROLLOUT_FAILED',
      `${path} was deleted, and is still there after ${timeoutMs / 1_000} s`,
    );
  });
}

/** Until the server serves the kind of an object whose definition has been applied. */
export async function waitUntilServed(
  kubernetes: Kubernetes,
  object: KubeObject,
  timeoutMs: number,
): Promise<void> {
  await waitFor(kubernetes, timeoutMs, async (late) => {
    try {
      await kubernetes.pathOf(object, 'default');
      return true;
    } catch (error) {
      if (late || !isFeedctlError(error, 'KUBE_KIND_UNKNOWN')) throw error;
      return undefined;
    }
  });
}

/**
 * Polls `check` until it returns something. A failure to reach the server is retried. After the timeout `check` is called once
 * more, with `late`: it has to throw then.
 */
async function waitFor<T>(
  { signal }: Kubernetes,
  timeoutMs: number,
  check: (late: boolean) => Promise<T | undefined>,
): Promise<T> {
  const until = performance.now() + timeoutMs;
  const attempt = async () => {
    const late = performance.now() > until;
    try {
      return await check(late);
    } catch (error) {
      if (late || !isFeedctlError(error, 'KUBE_UNREACHABLE')) throw error;
      return undefined;
    }
  };
  return (await poll(attempt, { everyMs: POLL_MS, ...(signal && { signal }) })) as T;
}

interface JobPod extends KubeObject {
  readonly status?: {
    containerStatuses?: {
      state?: { terminated?: { message?: string }; waiting?: { reason?: string; message?: string } };
    }[];
  };
}

/** The end of what the newest pod of a Job printed, or what it waits for. */
async function lastWords(kubernetes: Kubernetes, job: Job): Promise<string> {
  const { namespace, name } = job.metadata;
  const pods = await kubernetes.list<JobPod>(`/api/v1/namespaces/${namespace}/pods`, {
    labelSelector: `batch.kubernetes.io/job-name=${name}`,
  });
  const newest = pods.toSorted((a, b) =>
    (a.metadata.creationTimestamp ?? '') < (b.metadata.creationTimestamp ?? '') ? 1 : -1,
  )[0];
  const state = newest?.status?.containerStatuses?.[0]?.state;
  return (state?.terminated?.message ?? state?.waiting?.reason ?? '').trim().slice(-1_000);
}
