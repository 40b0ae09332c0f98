import { counted } from '../model/counted.ts';
import { FeedctlError, isFeedctlError } from '../model/errors.ts';
import { poll } from '../util/poll.ts';
import type { Kubernetes } from './client.ts';
import type { KubeObject } from './object.ts';

/** Waits poll, because watches can end silently. */
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

/** Returns the condition of a Job if it is true. */
export const conditionOf = ({ status }: Job, type: 'Complete' | 'Failed'): Condition | undefined =>
  status?.conditions?.find((one) => one.type === type && one.status === 'True');

export interface Rollout {
  readonly name: string;
  /** Pods of the deployment's specification. */
  readonly desired: number;
  /** Pods of the newest template. */
  readonly updated: number;
  readonly ready: number;
  readonly available: number;
  /** Every pod has the newest template and is available, and no old pod is left. */
  readonly done: boolean;
  /** Reason that stops the rollout; null otherwise. */
  readonly stuck: string | null;
}

export function rolloutOf({ metadata, spec, status = {} }: Deployment): Rollout {
  const desired = spec.replicas ?? 1;
  const { updatedReplicas = 0, readyReplicas = 0, availableReplicas = 0, replicas = 0 } = status;
  const observed = (status.observedGeneration ?? 0) >= (metadata.generation ?? 0);
  const condition = (type: string) => status.conditions?.find((one) => one.type === type);
  const progressing = condition('Progressing');
  const failing = condition('ReplicaFailure');
  // Conditions are about the previous template until the controller has observed the newest one.
  const stuck = !observed
    ? null
    : failing?.status === 'True'
      ? (failing.message ?? 'pods cannot be created')
      : progressing?.reason === 'ProgressDeadlineExceeded'
        ? (progressing.message ?? 'the progress deadline is exceeded')
        : null;
  const replaced = updatedReplicas >= desired && availableReplicas >= desired && replicas <= desired;
  return {
    name: metadata.name,
    desired,
    updated: updatedReplicas,
    ready: readyReplicas,
    available: availableReplicas,
    done: observed && replaced,
    stuck,
  };
}

interface WaitOptions {
  readonly timeoutMs: number;
  readonly onProgress?: ((rollouts: readonly Rollout[]) => void) | undefined;
}

/**
 * Waits until each deployment (by path) has rolled out. Throws KUBE_ROLLOUT_FAILED on timeout, or
 * if one is stuck.
 */
export async function waitForRollouts(
  kubernetes: Kubernetes,
  paths: readonly string[],
  { timeoutMs, onProgress }: WaitOptions,
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
      const counts = `${updated} of ${counted(desired, 'pod')} of the new template, ${available} available`;
      return `Deployment/${name}: ${counts}`;
    });
    throw new FeedctlError(
      'KUBE_ROLLOUT_FAILED',
      `not rolled out after ${Math.round(timeoutMs / 1_000)} s: ${rest.join('; ')}`,
    );
  });
}

/**
 * Waits until a Job is complete. Throws KUBE_ROLLOUT_FAILED with the last output of its newest pod.
 */
export async function waitForJob(kubernetes: Kubernetes, path: string, timeoutMs: number): Promise<void> {
  await waitFor(kubernetes, timeoutMs, async (late) => {
    const job = await kubernetes.get<Job>(path);
    if (conditionOf(job, 'Complete')) return true;
    const failed = conditionOf(job, 'Failed');
    if (!failed && !late) return undefined;
    const output = await lastOutput(kubernetes, job).catch(() => '');
    const why = failed
      ? `has failed: ${failed.message ?? failed.reason}`
      : `has not ended after ${Math.round(timeoutMs / 1_000)} s`;
    throw new FeedctlError(
      'KUBE_ROLLOUT_FAILED',
      `Job/${job.metadata.name} ${why}${output && `; ${output}`}`,
    );
  });
}

/**
 * Waits until an object is deleted. Throws KUBE_ROLLOUT_FAILED on timeout: a finalizer may block
 * the deletion.
 */
export async function waitUntilDeleted(
  kubernetes: Kubernetes,
  path: string,
  timeoutMs: number,
): Promise<void> {
  await waitFor(kubernetes, timeoutMs, async (late) => {
    if (!(await kubernetes.exists(path))) return true;
    if (!late) return undefined;
    throw new FeedctlError(
      'KUBE_ROLLOUT_FAILED',
      `${path} still exists ${timeoutMs / 1_000} s after its deletion`,
    );
  });
}

/** Waits until the server serves the kind of an object. Throws KUBE_KIND_UNKNOWN on timeout. */
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
 * Polls `check` until it returns something. A failure to reach the server is retried. After the
 * timeout `check` is called once more, with `late`: it has to throw then.
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

/** Returns the end of the output of a Job's newest pod, or the reason that it waits. */
async function lastOutput(kubernetes: Kubernetes, job: Job): Promise<string> {
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
