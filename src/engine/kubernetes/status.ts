import { FeedctlError, isFeedctlError } from '../model/errors.ts';
import { type AutoscalerState, listAutoscalers } from './autoscaling.ts';
import type { Kubernetes } from './client.ts';
import type { KubeObject } from './object.ts';
import { namespaceExists } from './plan.ts';
import { listPods, OF_FEEDCTL, type PodState } from './pods.ts';
import { conditionOf, type Deployment, type Job, type Rollout, rolloutOf } from './rollout.ts';

const MAX_EVENT_AGE_MS = 3_600_000;
const MAX_EVENTS = 20;

export interface WarningEvent {
  /** Kind and name: Pod/feedctl-worker-5f6d */
  readonly object: string;
  readonly reason: string;
  readonly message: string;
  readonly count: number;
  readonly lastSeen: string;
}

export interface JobState {
  readonly name: string;
  readonly state: 'running' | 'complete' | 'failed';
  /** Failed pods of the Job. It creates others until its limit. */
  readonly failures: number;
  /** Reason of the failure; null otherwise. */
  readonly reason: string | null;
}

export interface KubeStatus {
  readonly server: string;
  readonly namespace: string;
  /** Every deployment has rolled out, no Job has failed, and no pod or autoscaler has a problem. */
  readonly healthy: boolean;
  readonly deployments: readonly Rollout[];
  readonly jobs: readonly JobState[];
  readonly pods: readonly PodState[];
  readonly autoscalers: readonly AutoscalerState[];
  /** Warnings of the last hour, newest first. */
  readonly events: readonly WarningEvent[];
}

/**
 * Returns the state of feedctl's objects. Throws KUBE_NAMESPACE_MISSING, KUBE_NOT_FOUND or another
 * KUBE_ code.
 */
export async function kubeStatus(kubernetes: Kubernetes, namespace: string): Promise<KubeStatus> {
  const path = `/apis/apps/v1/namespaces/${namespace}/deployments`;
  const found = await kubernetes.list<Deployment>(path, { labelSelector: OF_FEEDCTL });
  if (found.length === 0) throw await notFound(kubernetes, namespace);
  const pods = await listPods(kubernetes, namespace);
  const autoscalers = await listAutoscalers(kubernetes, namespace);
  const names = new Set(found.map(({ metadata }) => metadata.name));
  const scalers = autoscalers.filter(({ target }) => names.has(target));
  const deployments = found.map(rolloutOf);
  const jobs = (await kubernetes.list<Job>(jobsPath(namespace), { labelSelector: OF_FEEDCTL })).map(jobState);
  const events = await warnings(kubernetes, namespace, [
    ...names,
    ...[...jobs, ...pods, ...scalers].map(({ name }) => name),
    ...scalers.map(({ hpa }) => hpa),
  ]);
  const healthy =
    deployments.every(({ done }) => done) &&
    jobs.every(({ state }) => state !== 'failed') &&
    pods.every((pod) => isHealthy(pod, jobs)) &&
    scalers.every(({ problems }) => problems.length === 0);
  return {
    server: kubernetes.server,
    namespace,
    healthy,
    deployments,
    jobs,
    pods,
    autoscalers: scalers,
    events,
  };
}

const jobsPath = (namespace: string): string => `/apis/batch/v1/namespaces/${namespace}/jobs`;

function jobState(job: Job): JobState {
  const failed = conditionOf(job, 'Failed');
  return {
    name: job.metadata.name,
    state: failed ? 'failed' : conditionOf(job, 'Complete') ? 'complete' : 'running',
    failures: job.status?.failed ?? 0,
    reason: failed?.message ?? failed?.reason ?? null,
  };
}

/**
 * Returns whether a pod has no problem that matters. A failed pod, such as an evicted one, stays
 * listed long after its replacement runs, so its deployment or Job decides.
 */
function isHealthy({ phase, ready, reason, owner }: PodState, jobs: readonly JobState[]): boolean {
  if (reason === null || ready || phase === 'Terminating' || phase === 'Succeeded') return true;
  if (phase !== 'Failed' || owner === null) return false;
  const [kind, name] = owner.split('/');
  return kind !== 'Job' || jobs.some((job) => job.name === name && job.state === 'complete');
}

/** Returns the error for an empty list, which may be that of a namespace that does not exist. */
export async function notFound(
  kubernetes: Kubernetes,
  namespace: string,
  what = 'deployment of feedctl',
): Promise<FeedctlError> {
  if (!(await namespaceExists(kubernetes, namespace)))
    return new FeedctlError('KUBE_NAMESPACE_MISSING', `there is no namespace ${namespace}`);
  return new FeedctlError('KUBE_NOT_FOUND', `there is no ${what} in the namespace ${namespace}`);
}

interface KubeEvent extends KubeObject {
  readonly involvedObject: { kind?: string; name?: string };
  readonly reason?: string;
  readonly message?: string;
  readonly count?: number;
  readonly series?: { count?: number; lastObservedTime?: string };
  readonly lastTimestamp?: string | null;
  readonly eventTime?: string | null;
}

async function warnings(
  kubernetes: Kubernetes,
  namespace: string,
  names: readonly string[],
): Promise<WarningEvent[]> {
  const path = `/api/v1/namespaces/${namespace}/events`;
  let events: KubeEvent[];
  try {
    events = await kubernetes.list<KubeEvent>(path, { fieldSelector: 'type=Warning' });
  } catch (error) {
    // The rest of the status is useful without permission to read events.
    if (isFeedctlError(error, 'KUBE_FORBIDDEN')) return [];
    throw error;
  }
  return events
    .filter(({ involvedObject: { name = '' } }) =>
      names.some((one) => name === one || name.startsWith(`${one}-`)),
    )
    .map((event) => ({
      object: `${event.involvedObject.kind}/${event.involvedObject.name}`,
      reason: event.reason ?? '',
      message: event.message ?? '',
      count: event.series?.count ?? event.count ?? 1,
      lastSeen:
        event.series?.lastObservedTime ??
        event.lastTimestamp ??
        event.eventTime ??
        event.metadata.creationTimestamp ??
        new Date(0).toISOString(),
    }))
    .filter(({ lastSeen }) => Date.parse(lastSeen) > Date.now() - MAX_EVENT_AGE_MS)
    .sort((a, b) => Date.parse(b.lastSeen) - Date.parse(a.lastSeen))
    .slice(0, MAX_EVENTS);
}
