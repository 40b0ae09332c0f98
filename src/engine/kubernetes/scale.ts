import { counted } from '../model/counted.ts';
import { FeedctlError } from '../model/errors.ts';
import {
  type AutoscalerState,
  hpasPath,
  listAutoscalers,
  PAUSED_REPLICAS,
  PAUSES,
  scaledObjectsPath,
} from './autoscaling.ts';
import type { Kubernetes } from './client.ts';
import { OF_FEEDCTL } from './pods.ts';
import { type Deployment, type Rollout, rolloutOf, waitForRollouts } from './rollout.ts';
import { notFound } from './status.ts';

const RESTARTED_AT = 'kubectl.kubernetes.io/restartedAt';

interface Workers {
  readonly deployment: Deployment;
  readonly path: string;
  readonly autoscaler: AutoscalerState | undefined;
}

/**
 * Returns the deployment of workers and its autoscaler. Throws KUBE_NOT_FOUND,
 * KUBE_NAMESPACE_MISSING or KUBE_REFUSED.
 */
async function findWorkers(kubernetes: Kubernetes, namespace: string): Promise<Workers> {
  const folder = `/apis/apps/v1/namespaces/${namespace}/deployments`;
  const labelSelector = `${OF_FEEDCTL},app.kubernetes.io/component=worker`;
  const [deployment, ...others] = await kubernetes.list<Deployment>(folder, { labelSelector });
  if (!deployment) throw await notFound(kubernetes, namespace, 'deployment of workers');
  if (others.length > 0) {
    const names = [deployment, ...others].map(({ metadata }) => metadata.name).join(', ');
    throw new FeedctlError(
      'KUBE_REFUSED',
      `several deployments in ${namespace} are labelled as workers: ${names}`,
    );
  }
  const { name } = deployment.metadata;
  const autoscalers = await listAutoscalers(kubernetes, namespace);
  return {
    deployment,
    path: `${folder}/${name}`,
    autoscaler: autoscalers.find(({ target }) => target === name),
  };
}

/** A number of pods, other bounds of the autoscaler, or the end of its pause. */
export type ScaleRequest =
  | { readonly to: 'replicas'; readonly replicas: number }
  | { readonly to: 'bounds'; readonly min: number | undefined; readonly max: number | undefined }
  | { readonly to: 'auto' };

export interface ScalePlan {
  readonly deployment: string;
  readonly namespace: string;
  /** Pods of the deployment's specification, before the change. */
  readonly current: number;
  readonly autoscaler: AutoscalerState | null;
  /**
   * The changed setting: replicas of the deployment, pause of KEDA, bounds of the autoscaler, end
   * of the pause.
   */
  readonly by: 'replicas' | 'pause' | 'bounds' | 'resume';
  /** Sentence for the operator. */
  readonly change: string;
}

/** A patch of one object. */
interface Patch {
  readonly path: string;
  readonly body: object;
}

interface ScaleChange extends Patch {
  readonly plan: ScalePlan;
}

/** A patch with its description. */
interface Step extends Patch {
  readonly by: ScalePlan['by'];
  readonly change: string;
}

/**
 * Plans a request without a conflict of controllers. If a ScaledObject owns the deployment, KEDA is
 * paused at the number. If an HPA owns it, only the bounds can be changed. Throws KUBE_AUTOSCALED,
 * USAGE, or what `findWorkers` throws.
 */
export async function planScale(
  kubernetes: Kubernetes,
  namespace: string,
  request: ScaleRequest,
): Promise<ScaleChange> {
  const workers = await findWorkers(kubernetes, namespace);
  const { metadata, spec } = workers.deployment;
  const { by, change, path, body } = stepOf(workers, namespace, request);
  const plan = { deployment: metadata.name, namespace, current: spec.replicas ?? 1, by, change };
  return { plan: { ...plan, autoscaler: workers.autoscaler ?? null }, path, body };
}

function stepOf(workers: Workers, namespace: string, request: ScaleRequest): Step {
  switch (request.to) {
    case 'auto':
      return resume(workers, namespace);
    case 'bounds':
      return setBounds(workers, namespace, request);
    case 'replicas':
      return setReplicas(workers, namespace, request.replicas);
  }
}

const scaledObjectPath = (namespace: string, { name }: AutoscalerState): string =>
  `${scaledObjectsPath(namespace)}/${name}`;

const annotate = (annotations: Record<string, string | null>): object => ({ metadata: { annotations } });

function resume({ deployment, autoscaler }: Workers, namespace: string): Step {
  const { name } = deployment.metadata;
  if (autoscaler?.kind !== 'ScaledObject')
    throw new FeedctlError('USAGE', `no ScaledObject owns ${name}: --auto has nothing to resume`);
  return {
    by: 'resume',
    change: `KEDA scales ${name} again, ${autoscaler.min} to ${autoscaler.max}`,
    path: scaledObjectPath(namespace, autoscaler),
    body: annotate(Object.fromEntries(PAUSES.map((pause) => [pause, null]))),
  };
}

function setBounds(
  { deployment, autoscaler }: Workers,
  namespace: string,
  request: ScaleRequest & { to: 'bounds' },
): Step {
  const { name } = deployment.metadata;
  if (!autoscaler)
    throw new FeedctlError('USAGE', `no autoscaler owns ${name}: pass a number of pods instead of bounds`);
  const { min = autoscaler.min, max = autoscaler.max } = request;
  if (min > max) throw new FeedctlError('USAGE', `the minimum (${min}) is more than the maximum (${max})`);
  const ofKeda = autoscaler.kind === 'ScaledObject';
  const [minField, maxField] = ofKeda
    ? (['minReplicaCount', 'maxReplicaCount'] as const)
    : (['minReplicas', 'maxReplicas'] as const);
  return {
    by: 'bounds',
    change: `${autoscaler.kind}/${autoscaler.name} scales ${name} from ${min} to ${max}`,
    path: ofKeda ? scaledObjectPath(namespace, autoscaler) : `${hpasPath(namespace)}/${autoscaler.name}`,
    // A patch owns the fields that it sets: the other bound would be a conflict for the next apply.
    body: {
      spec: {
        ...(request.min !== undefined && { [minField]: min }),
        ...(request.max !== undefined && { [maxField]: max }),
      },
    },
  };
}

function setReplicas({ deployment, path, autoscaler }: Workers, namespace: string, replicas: number): Step {
  const { name } = deployment.metadata;
  if (!autoscaler)
    return {
      by: 'replicas',
      change: `${name} gets ${counted(replicas, 'pod')}, from ${deployment.spec.replicas ?? 1}`,
      path: `${path}/scale`,
      body: { spec: { replicas } },
    };
  if (autoscaler.kind !== 'ScaledObject')
    throw new FeedctlError(
      'KUBE_AUTOSCALED',
      `${autoscaler.kind}/${autoscaler.name} scales ${name}, ${autoscaler.min} to ${autoscaler.max}`,
    );
  return {
    by: 'pause',
    change: `KEDA holds ${name} at ${replicas}, until --auto`,
    path: scaledObjectPath(namespace, autoscaler),
    body: annotate({ [PAUSED_REPLICAS]: String(replicas) }),
  };
}

/** Makes the change; with `dryRun` the server only validates it. */
export async function scale(
  kubernetes: Kubernetes,
  { path, body }: Patch,
  options: { dryRun: boolean },
): Promise<void> {
  await kubernetes.patch(path, 'merge', body, options);
}

export interface RestartPlan {
  readonly deployment: string;
  readonly namespace: string;
  readonly path: string;
  readonly rollout: Rollout;
}

export async function planRestart(kubernetes: Kubernetes, namespace: string): Promise<RestartPlan> {
  const { deployment, path } = await findWorkers(kubernetes, namespace);
  return { deployment: deployment.metadata.name, namespace, path, rollout: rolloutOf(deployment) };
}

/**
 * Replaces the pods a few at a time, as `kubectl rollout restart` does. Throws KUBE_ROLLOUT_FAILED.
 */
export async function restart(
  kubernetes: Kubernetes,
  { path }: RestartPlan,
  options: { timeoutMs: number; wait: boolean; onProgress?: (rollout: Rollout) => void },
): Promise<Rollout> {
  const annotations = { [RESTARTED_AT]: new Date().toISOString() };
  const changed = await kubernetes.patch(path, 'strategic', {
    spec: { template: { metadata: { annotations } } },
  });
  if (!options.wait) return rolloutOf(changed as Deployment);
  const [rollout] = await waitForRollouts(kubernetes, [path], {
    timeoutMs: options.timeoutMs,
    onProgress: ([one]) => options.onProgress?.(one!),
  });
  return rollout!;
}
