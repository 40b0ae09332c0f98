import type { Kubernetes } from './client.ts';
import { readManifests } from './manifests.ts';
import { type KubeObject, type Manifest, nameOf } from './object.ts';
import { ordered, type Plan, type PlannedObject, planApply, refusalOf, withOwnDefinition } from './plan.ts';
import { type PruneCandidate, prune } from './prune.ts';
import { type Rollout, waitForJob, waitForRollouts, waitUntilDeleted, waitUntilServed } from './rollout.ts';

/**
 * Reads manifests and plans their apply. The namespace is that of the options, else that of the
 * manifests, else that of the kubeconfig. Throws what `readManifests` and `planApply` throw.
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
  /** False: neither the migration nor the rollout is waited for. */
  readonly wait: boolean;
  /** Deletes the plan's leftovers after the rollout. */
  readonly prune: boolean;
  readonly timeoutMs: number;
  /** Called with a progress line for each step. */
  readonly onStep?: ((step: string) => void) | undefined;
  readonly onProgress?: ((rollouts: readonly Rollout[]) => void) | undefined;
}

export interface Applied {
  readonly objects: readonly PlannedObject[];
  /** Deployments, after their rollout; none without `wait`. */
  readonly rollouts: readonly Rollout[];
  /** Deleted leftovers of earlier manifests. */
  readonly pruned: readonly PruneCandidate[];
}

/** Kinds that must exist before the server can dry-run objects in them or of them. */
const PREREQUISITES = ['Namespace', 'CustomResourceDefinition'];

/**
 * Applies a plan in this order: namespaces and definitions, accounts and settings, Jobs,
 * deployments, autoscalers. Deployments wait for the Jobs. Unchecked objects are checked once their
 * namespace or kind exists, before any of them is applied. After an interruption the next apply
 * continues. Throws KUBE_ROLLOUT_FAILED, and what `planApply` throws.
 */
export async function applyPlan(
  kubernetes: Kubernetes,
  manifests: readonly Manifest[],
  plan: Plan,
  options: ApplyOptions,
): Promise<Applied> {
  const { namespace } = plan;
  const until = performance.now() + options.timeoutMs;
  const leftMs = () => Math.max(0, until - performance.now());
  const objects = await applyPrerequisites(kubernetes, manifests, plan, { ...options, leftMs });
  const deployments: string[] = [];
  for (const { object } of ordered(manifests).filter((one) => !isPrerequisite(one))) {
    const path = await kubernetes.pathOf(object, object.metadata.namespace ?? namespace);
    options.onStep?.(nameOf(object));
    if (objects.some((one) => one.action === 'replaced' && isPlanOf(one, object))) {
      await kubernetes.delete(path);
      await waitUntilDeleted(kubernetes, path, leftMs());
    }
    await kubernetes.apply(path, object, { force: options.forceConflicts, dryRun: false });
    if (object.kind === 'Deployment') deployments.push(path);
    if (object.kind === 'Job' && options.wait) {
      options.onStep?.(`waiting for ${nameOf(object)}`);
      await waitForJob(kubernetes, path, leftMs());
    }
  }
  const { onProgress } = options;
  const rollouts = options.wait
    ? await waitForRollouts(kubernetes, deployments, { timeoutMs: leftMs(), onProgress })
    : [];
  const pruned = options.prune ? plan.leftovers : [];
  await prune(kubernetes, pruned, namespace, options.onStep);
  return { objects, rollouts, pruned };
}

const isPrerequisite = ({ object }: Manifest): boolean => PREREQUISITES.includes(object.kind);

const isPlanOf = ({ kind, name }: PlannedObject, object: KubeObject): boolean =>
  kind === object.kind && name === object.metadata.name;

/**
 * Applies namespaces and definitions, and checks the objects that the plan could not check without
 * them. Returns the plan's objects with the results of these checks. Throws the refusal of an
 * object, and what `planApply` throws.
 */
async function applyPrerequisites(
  kubernetes: Kubernetes,
  manifests: readonly Manifest[],
  { namespace, objects }: Plan,
  { forceConflicts, onStep, leftMs }: ApplyOptions & { leftMs: () => number },
): Promise<readonly PlannedObject[]> {
  for (const { object } of ordered(manifests).filter(isPrerequisite)) {
    const path = await kubernetes.pathOf(object, object.metadata.namespace ?? namespace);
    await kubernetes.apply(path, object, { force: forceConflicts, dryRun: false });
  }
  if (!objects.some(({ action }) => action === 'unchecked')) return objects;
  onStep?.('namespaces and definitions exist; checking the other objects');
  for (const { object } of withOwnDefinition(manifests)) await waitUntilServed(kubernetes, object, leftMs());
  const rest = manifests.filter((one) => !isPrerequisite(one));
  const checked = await planApply(kubernetes, rest, { namespace, forceConflicts });
  const refusal = refusalOf(checked);
  if (refusal) throw refusal;
  return [...objects.filter(({ kind }) => PREREQUISITES.includes(kind)), ...checked.objects];
}
