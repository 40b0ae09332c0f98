import type { Kubernetes } from './client.ts';
import { readManifests } from './manifests.ts';
import type { Manifest } from './object.ts';
import { areDefined, ordered, type Plan, type PlannedObject, planApply, refusalOf } from './plan.ts';
import { type PruneCandidate, prune } from './prune.ts';
import { type Rollout, waitForJob, waitForRollouts, waitUntilGone, waitUntilServed } from './rollout.ts';

/**
 * Reads manifests, in the namespace that is asked for, or their own, or that of the kubeconfig, and plans their apply. Throws
 * what reading and planning throw.
 */
export async function readPlan(
  kubernetes: Kubernetes,
  name: string,
  options: { namespace: string | undefined; image: string | undefined; forceConflicts: boolean },
): Promise<{ manifests: Manifest[]; plan: Plan }> {
  const manifests = await readManifests(name, options);
  const own = manifests.map(({ object }) => object.metadata.namespace).find(Boolean);
  const namespace = own ?? kubernetes.namespace ?? 'default';
  const plan = await planApply(kubernetes, manifests, { namespace, forceConflicts: options.forceConflicts });
  return { manifests, plan };
}

export interface ApplyOptions {
  readonly forceConflicts: boolean;
  /** False: nothing is waited for, the migration neither. */
  readonly wait: boolean;
  /** The plan's leftovers are deleted when everything else has been done. */
  readonly prune: boolean;
  readonly timeoutMs: number;
  /** What is being done. */
  readonly onStep?: ((step: string) => void) | undefined;
  readonly onProgress?: ((rollouts: readonly Rollout[]) => void) | undefined;
}

export interface Applied {
  readonly objects: readonly PlannedObject[];
  /** Deployments that were waited for. */
  readonly rollouts: readonly Rollout[];
  /** What was deleted, as the manifests do not hold it any more. */
  readonly pruned: readonly PruneCandidate[];
}

/** Kinds without which others cannot even be checked. */
const OTHERS_NEED = ['Namespace', 'CustomResourceDefinition'];

/**
 * Applies what `plan` says: namespaces and definitions first, then what others need, then Jobs, which are waited for before deployments
 * roll. What could not be checked before its namespace was there is checked then, before any of it is applied. Applying
 * again goes on where it stopped. Throws KUBE_ROLLOUT_FAILED, and what planning throws.
 */
export async function applyPlan(
  kubernetes: Kubernetes,
  manifests: readonly Manifest[],
  plan: Plan,
  options: ApplyOptions,
): Promise<Applied> {
  const { forceConflicts: force, wait, timeoutMs, onStep } = options;
  const { namespace } = plan;
  const until = performance.now() + timeoutMs;
  const left = () => Math.max(0, until - performance.now());
  const inOrder = ordered(manifests);
  const pathOf = ({ object }: Manifest) => kubernetes.pathOf(object, object.metadata.namespace ?? namespace);
  let objects = plan.objects;
  const first = inOrder.filter(({ object }) => OTHERS_NEED.includes(object.kind));
  const rest = inOrder.filter((one) => !first.includes(one));
  for (const one of first) await kubernetes.apply(await pathOf(one), one.object, { force, dryRun: false });
  if (objects.some(({ action }) => action === 'unchecked')) {
    onStep?.('what others need is there; checking what comes into it');
    for (const { object } of areDefined(inOrder)) await waitUntilServed(kubernetes, object, left());
    const checked = await planApply(kubernetes, rest, { namespace, forceConflicts: force });
    const refusal = refusalOf(checked);
    if (refusal) throw refusal;
    objects = [...objects.filter(({ kind }) => OTHERS_NEED.includes(kind)), ...checked.objects];
  }
  const replaced = (one: Manifest) =>
    objects.some(
      ({ kind, name, action }) =>
        kind === one.object.kind && name === one.object.metadata.name && action === 'replaced',
    );
  const deployments: string[] = [];
  for (const one of rest) {
    const { object } = one;
    const path = await pathOf(one);
    onStep?.(`${object.kind}/${object.metadata.name}`);
    if (replaced(one)) {
      await kubernetes.delete(path);
      await waitUntilGone(kubernetes, path, left());
    }
    await kubernetes.apply(path, object, { force, dryRun: false });
    if (object.kind === 'Deployment') deployments.push(path);
    if (object.kind === 'Job' && wait) {
      onStep?.(`waiting for Job/${object.metadata.name}`);
      await waitForJob(kubernetes, path, left());
    }
  }
  const rollouts = wait
    ? await waitForRollouts(kubernetes, deployments, { timeoutMs: left(), onProgress: options.onProgress })
    : [];
  const pruned = options.prune ? plan.leftovers : [];
  await prune(kubernetes, pruned, namespace, onStep);
  return { objects, rollouts, pruned };
}
