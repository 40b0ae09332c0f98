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
import { nothingThere } from './status.ts';

const RESTARTED_AT = 'kubectl.kubernetes.io/restartedAt';

interface Workers {
  readonly deployment: Deployment;
  readonly path: string;
  readonly autoscaler: AutoscalerState | undefined;
}

/** The one deployment of workers, and what scales it. Throws KUBE_NOT_FOUND, KUBE_NAMESPACE_MISSING or KUBE_REFUSED. */
async function findWorkers(kubernetes: Kubernetes, namespace: string): Promise<Workers> {
  const folder = `/apis/apps/v1/namespaces/${namespace}/deployments`;
  const labelSelector = `${OF_FEEDCTL},app.kubernetes.io/component=worker`;
  const [deployment, ...others] = await kubernetes.list<Deployment>(folder, { labelSelector });
  if (!deployment) throw await nothingThere(kubernetes, namespace, 'deployment of workers');
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

/** What is asked for: a number of pods, other bounds of whatever scales by itself, or that it may scale again. */
export type ScaleRequest =
  | { readonly to: 'replicas'; readonly replicas: number }
  | { readonly to: 'bounds'; readonly min: number | undefined; readonly max: number | undefined }
  | { readonly to: 'auto' };

export interface ScalePlan {
  readonly deployment: string;
  readonly namespace: string;
  /** Pods that there should be now. */
  readonly current: number;
  readonly autoscaler: AutoscalerState | null;
  /** How it is done: the deployment's own number, KEDA's pause, or the bounds of what scales. */
  readonly by: 'replicas' | 'pause' | 'bounds' | 'resume';
  /** In words. */
  readonly change: string;
}

interface Change {
  readonly plan: ScalePlan;
  readonly path: string;
  readonly body: object;
  readonly deployment: string;
}

/**
 * How a request is met without a fight: where a ScaledObject owns the deployment, KEDA is asked to stand still at that number; where
 * an HPA does, only its bounds can be changed. Throws KUBE_AUTOSCALED, USAGE, or what finding the workers throws.
 */
export async function planScale(
  kubernetes: Kubernetes,
  namespace: string,
  request: ScaleRequest,
): Promise<Change> {
  const { deployment, path, autoscaler } = await findWorkers(kubernetes, namespace);
  const { name } = deployment.metadata;
  const current = deployment.spec.replicas ?? 1;
  const change = (by: ScalePlan['by'], what: string, at: string, body: object): Change => ({
    plan: { deployment: name, namespace, current, autoscaler: autoscaler ?? null, by, change: what },
    path: at,
    body,
    deployment: path,
  });
  const keda =
    autoscaler?.kind === 'ScaledObject' ? `${scaledObjectsPath(namespace)}/${autoscaler.name}` : undefined;
  const annotated = (annotations: Record<string, string | null>) => ({ metadata: { annotations } });
  if (request.to === 'auto') {
    if (!keda || !autoscaler)
      throw new FeedctlError('USAGE', `no ScaledObject owns ${name}: there is nothing to give back to`);
    return change(
      'resume',
      `KEDA scales ${name} again, ${autoscaler.min} to ${autoscaler.max}`,
      keda,
      annotated(Object.fromEntries(PAUSES.map((pause) => [pause, null]))),
    );
  }
  if (request.to === 'bounds') {
    if (!autoscaler)
      throw new FeedctlError('USAGE', `nothing scales ${name} by itself: say how many pods it should have`);
    const { min = autoscaler.min, max = autoscaler.max } = request;
    if (min > max) throw new FeedctlError('USAGE', `the least (${min}) is more than the most (${max})`);
    const [least, most] = keda
      ? (['minReplicaCount', 'maxReplicaCount'] as const)
      : (['minReplicas', 'maxReplicas'] as const);
    const at = keda ?? `${hpasPath(namespace)}/${autoscaler.name}`;
    const what = `${autoscaler.kind}/${autoscaler.name} scales ${name} from ${min} to ${max}`;
    // A bound that was not asked for stays whose it is: what is written is owned, and an apply would meet a conflict.
    const spec = {
      ...(request.min !== undefined && { [least]: min }),
      ...(request.max !== undefined && { [most]: max }),
    };
    return change('bounds', what, at, { spec });
  }
  const { replicas } = request;
  if (keda)
    return change(
      'pause',
      `KEDA holds ${name} at ${replicas}, until --auto`,
      keda,
      annotated({ [PAUSED_REPLICAS]: String(replicas) }),
    );
  if (autoscaler)
    throw new FeedctlError(
      'KUBE_AUTOSCALED',
      `${autoscaler.kind}/${autoscaler.name} scales ${name}, ${autoscaler.min} to ${autoscaler.max}`,
    );
  return change('replicas', `${name} gets ${replicas} pod(s), from ${current}`, `${path}/scale`, {
    spec: { replicas },
  });
}

/** Makes the change; with `dryRun` the server only looks at it. */
export async function scale(
  kubernetes: Kubernetes,
  { path, body }: Change,
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
 * New pods for old ones, a few at a time, as `kubectl rollout restart` does it; resolves when all are there. Throws
 * KUBE_ROLLOUT_FAILED.
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
