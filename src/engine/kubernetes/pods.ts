import type { Kubernetes } from './client.ts';
import type { KubeObject } from './object.ts';
import type { Condition } from './rollout.ts';

/** Label of all objects of feedctl. */
export const PART_OF = { label: 'app.kubernetes.io/part-of', value: 'feedctl' } as const;
export const OF_FEEDCTL = `${PART_OF.label}=${PART_OF.value}`;
const OF_WORKERS = `${OF_FEEDCTL},app.kubernetes.io/component=worker`;
const MESSAGE_CHARACTERS = 300;

interface ContainerState {
  readonly waiting?: { readonly reason?: string; readonly message?: string };
  readonly terminated?: { readonly reason?: string; readonly exitCode?: number; readonly message?: string };
}

interface Pod extends KubeObject {
  readonly spec?: { readonly nodeName?: string };
  readonly status?: {
    readonly phase?: string;
    readonly reason?: string;
    readonly message?: string;
    readonly conditions?: readonly Condition[];
    readonly containerStatuses?: readonly {
      readonly ready: boolean;
      readonly restartCount: number;
      readonly state?: ContainerState;
      readonly lastState?: ContainerState;
    }[];
  };
}

export interface PodState {
  readonly name: string;
  /** worker, gateway or migrate */
  readonly component: string;
  readonly node: string | null;
  /** The controller that replaces the pod: ReplicaSet/feedctl-worker-5f6d; null without one. */
  readonly owner: string | null;
  /** Pending, Running, Succeeded, Failed, Unknown, or Terminating during its deletion. */
  readonly phase: string;
  readonly ready: boolean;
  readonly restarts: number;
  /**
   * CrashLoopBackOff, ImagePullBackOff, OOMKilled (of the previous run), Unschedulable, ...; null
   * without a problem.
   */
  readonly reason: string | null;
  readonly message: string | null;
}

export async function listPods(
  kubernetes: Kubernetes,
  namespace: string,
  labelSelector = OF_FEEDCTL,
): Promise<PodState[]> {
  const pods = await kubernetes.list<Pod>(`/api/v1/namespaces/${namespace}/pods`, { labelSelector });
  return pods.map(podState).sort((a, b) => (a.name < b.name ? -1 : 1));
}

export const listWorkerPods = (kubernetes: Kubernetes, namespace: string): Promise<PodState[]> =>
  listPods(kubernetes, namespace, OF_WORKERS);

function podState({ metadata, spec, status = {} }: Pod): PodState {
  const containers = status.containerStatuses ?? [];
  const owner = metadata.ownerReferences?.find(({ controller }) => controller);
  const problem = containers.map(containerProblem).find(Boolean) ?? podProblem(status);
  return {
    name: metadata.name,
    component: metadata.labels?.['app.kubernetes.io/component'] ?? '',
    node: spec?.nodeName ?? null,
    owner: owner ? `${owner.kind}/${owner.name}` : null,
    phase: metadata.deletionTimestamp ? 'Terminating' : (status.phase ?? 'Unknown'),
    ready: status.conditions?.some(({ type, status: is }) => type === 'Ready' && is === 'True') ?? false,
    restarts: containers.reduce((sum, { restartCount }) => sum + restartCount, 0),
    reason: problem?.reason ?? null,
    message: problem?.message?.trim().slice(-MESSAGE_CHARACTERS) || null,
  };
}

interface Problem {
  readonly reason: string;
  readonly message?: string | undefined;
}

type Container = NonNullable<NonNullable<Pod['status']>['containerStatuses']>[number];

function containerProblem({ ready, state, lastState }: Container): Problem | undefined {
  const last = lastState?.terminated;
  const exitProblem = ({
    reason,
    exitCode,
    message,
  }: NonNullable<ContainerState['terminated']>): Problem => ({
    reason: reason === 'Error' ? `exit status ${exitCode}` : (reason ?? 'ended'),
    message,
  });
  if (state?.waiting?.reason && !['ContainerCreating', 'PodInitializing'].includes(state.waiting.reason)) {
    const { reason, message } = state.waiting;
    // The reason of the crash is more useful than the time until the next start.
    if (reason === 'CrashLoopBackOff' && last) {
      const why = exitProblem(last);
      return { reason: `${reason}: ${why.reason}`, message: why.message ?? message };
    }
    return { reason, message };
  }
  if (state?.terminated && state.terminated.exitCode !== 0) return exitProblem(state.terminated);
  // A restarted container that ran out of memory will probably do so again.
  if (last && (last.reason === 'OOMKilled' || (!ready && last.exitCode !== 0))) return exitProblem(last);
  return undefined;
}

function podProblem(status: NonNullable<Pod['status']>): Problem | undefined {
  if (status.phase === 'Failed') return { reason: status.reason ?? 'Failed', message: status.message };
  const scheduled = status.conditions?.find(
    ({ type, status: is }) => type === 'PodScheduled' && is === 'False',
  );
  return scheduled && { reason: scheduled.reason ?? 'Unschedulable', message: scheduled.message };
}
