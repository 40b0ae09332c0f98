import { type ErrorCode, FeedctlError, isFeedctlError } from '../model/errors.ts';
import { runConcurrently } from '../util/parallel.ts';
import type { Kubernetes } from './client.ts';
import { type FieldChange, fieldChanges } from './diff.ts';
import { type FieldConflict, KubeError } from './errors.ts';
import { isRecord, type Json, type KubeObject, type Manifest, nameOf } from './object.ts';
import { findPruneCandidates, type PruneCandidate } from './prune.ts';
import { conditionOf, type Job } from './rollout.ts';

/**
 * What an apply does with one object:
 *
 *     added      creates it
 *     changed    changes fields of it
 *     unchanged  nothing
 *     replaced   deletes it and creates it again: a Job that has failed or whose immutable template
 *                differs
 *     unchecked  creates it; the server cannot dry-run it before its namespace exists, or before its
 *                definition in the manifests is applied
 *     refused    the server refuses it, so nothing of the plan is applied
 */
export type Action = 'added' | 'changed' | 'unchanged' | 'replaced' | 'unchecked' | 'refused';

export interface PlannedObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  /** Null for an object in no namespace. */
  readonly namespace: string | null;
  /** Place in the manifests: file:line */
  readonly source: string;
  readonly action: Action;
  readonly fields: readonly FieldChange[];
  /** Reason of a refusal; null otherwise. */
  readonly problem: { code: string; message: string; conflicts: readonly FieldConflict[] } | null;
}

export interface Plan {
  readonly server: string;
  readonly namespace: string;
  readonly objects: readonly PlannedObject[];
  /** Secrets that do not exist. Pods cannot start without them. */
  readonly missingSecrets: readonly string[];
  /** Objects of earlier manifests. They stay unless the apply prunes. */
  readonly leftovers: readonly PruneCandidate[];
}

export interface PlanOptions {
  readonly namespace: string;
  readonly forceConflicts: boolean;
}

const CONCURRENCY = 4;
/**
 * Kinds in the order of an apply. Kinds that are not listed are last, because they may be custom
 * ones.
 */
const ORDER = [
  ['CustomResourceDefinition', 'Namespace', 'PriorityClass'],
  ['ServiceAccount', 'Role', 'ClusterRole'],
  ['RoleBinding', 'ClusterRoleBinding'],
  ['Secret', 'ConfigMap', 'NetworkPolicy', 'Service', 'PodDisruptionBudget'],
  ['Job'],
  ['Deployment', 'StatefulSet', 'DaemonSet'],
  ['HorizontalPodAutoscaler', 'TriggerAuthentication'],
];

/** Returns the manifests in the order in which they are applied. */
export function ordered(manifests: readonly Manifest[]): Manifest[] {
  const rank = ({ object }: Manifest) => {
    const at = ORDER.findIndex((kinds) => kinds.includes(object.kind));
    return at < 0 ? ORDER.length : at;
  };
  return manifests.toSorted((a, b) => rank(a) - rank(b));
}

/**
 * Returns what an apply would do, by a dry run of each object. Changes nothing. Refusals of single
 * objects are part of the plan. Throws KUBE_UNREACHABLE, KUBE_UNAUTHORIZED, KUBE_FORBIDDEN if every
 * object is forbidden, and KUBE_NAMESPACE_MISSING if a namespace is neither in the cluster nor in
 * the manifests.
 */
export async function planApply(
  kubernetes: Kubernetes,
  manifests: readonly Manifest[],
  { namespace, forceConflicts }: PlanOptions,
): Promise<Plan> {
  const missing = await missingNamespaces(kubernetes, manifests, namespace);
  const defined = definedKinds(manifests);
  const objects = await runConcurrently(ordered(manifests), CONCURRENCY, (manifest) =>
    planObject(kubernetes, manifest, { namespace, forceConflicts, missing, defined }),
  );
  const { problem } = objects[0] ?? {};
  if (problem && objects.every((one) => one.problem?.code === 'KUBE_FORBIDDEN'))
    throw new FeedctlError('KUBE_FORBIDDEN', problem.message);
  const missingSecrets = await missingSecretsOf(kubernetes, manifests, namespace);
  const leftovers = missing.has(namespace) ? [] : await findPruneCandidates(kubernetes, manifests, namespace);
  return { server: kubernetes.server, namespace, objects, missingSecrets, leftovers };
}

/** Returns the namespaces of the manifests that the cluster does not have. */
async function missingNamespaces(
  kubernetes: Kubernetes,
  manifests: readonly Manifest[],
  namespace: string,
): Promise<ReadonlySet<string>> {
  const created = new Set(
    manifests.filter(({ object }) => object.kind === 'Namespace').map(({ object }) => object.metadata.name),
  );
  const used = new Set(manifests.map(({ object }) => object.metadata.namespace ?? namespace));
  const missing = new Set<string>();
  for (const name of new Set([...created, ...used])) {
    if (await namespaceExists(kubernetes, name)) continue;
    if (!created.has(name)) throw new FeedctlError('KUBE_NAMESPACE_MISSING', `there is no namespace ${name}`);
    missing.add(name);
  }
  return missing;
}

/**
 * Returns true if namespaces may not be read: a later request fails if the namespace is missing.
 */
export async function namespaceExists(kubernetes: Kubernetes, name: string): Promise<boolean> {
  try {
    return await kubernetes.exists(`/api/v1/namespaces/${name}`);
  } catch (error) {
    if (isFeedctlError(error, 'KUBE_FORBIDDEN')) return true;
    throw error;
  }
}

async function planObject(
  kubernetes: Kubernetes,
  { object, source }: Manifest,
  options: PlanOptions & { missing: ReadonlySet<string>; defined: ReadonlyMap<string, Scope> },
): Promise<PlannedObject> {
  const { apiVersion, kind, metadata } = object;
  const target = metadata.namespace ?? options.namespace;
  const planned = { apiVersion, kind, name: metadata.name, source, fields: [], problem: null };
  let namespace: string | null = target;
  try {
    const path = await kubernetes.pathOf(object, target);
    if (!path.includes(`/namespaces/${target}/`) || kind === 'Namespace') namespace = null;
    if (namespace !== null && options.missing.has(namespace))
      return { ...planned, namespace, action: 'unchecked' };
    const live = await kubernetes.find(path);
    let wanted: KubeObject;
    try {
      wanted = await kubernetes.apply(path, object, { force: options.forceConflicts, dryRun: true });
    } catch (error) {
      if (live && isImmutableJob(object, error)) {
        const fields = error.immutable.map((at) => ({ path: at, from: null, to: null }));
        return { ...planned, namespace, action: 'replaced', fields };
      }
      throw error;
    }
    if (!live) return { ...planned, namespace, action: 'added' };
    if (isFailedJob(live)) return { ...planned, namespace, action: 'replaced' };
    const fields = fieldChanges(live, wanted);
    return { ...planned, namespace, action: fields.length > 0 ? 'changed' : 'unchanged', fields };
  } catch (error) {
    if (!isFeedctlError(error) || !OBJECT_ERRORS.includes(error.code)) throw error;
    const scope = options.defined.get(kindOf(object));
    if (scope && error.code === 'KUBE_KIND_UNKNOWN')
      return { ...planned, namespace: scope === 'Namespaced' ? target : null, action: 'unchecked' };
    const conflicts = error instanceof KubeError ? error.conflicts : [];
    return {
      ...planned,
      namespace,
      action: 'refused',
      problem: { code: error.code, message: error.message, conflicts },
    };
  }
}

const kindOf = ({ apiVersion, kind }: KubeObject): string => `${apiVersion} ${kind}`;

type Scope = 'Namespaced' | 'Cluster';

interface Definition {
  readonly group: string;
  readonly scope: Scope;
  readonly names: { readonly kind: string };
  readonly versions: readonly { readonly name: string; readonly served: boolean }[];
}

/** Returns the kinds that the manifests define, with the scope of each. */
function definedKinds(manifests: readonly Manifest[]): Map<string, Scope> {
  const definitions = manifests.filter(({ object }) => object.kind === 'CustomResourceDefinition');
  return new Map(
    definitions.flatMap(({ object }) => {
      // A definition without these fields is refused by the server.
      const {
        group,
        scope = 'Namespaced',
        names,
        versions = [],
      } = (object.spec ?? {}) as Partial<Definition>;
      return versions
        .filter(({ served }) => served)
        .map(({ name }) => [`${group}/${name} ${names?.kind}`, scope] as const);
    }),
  );
}

/**
 * Returns the manifests whose kind other manifests define: the server serves it only after these
 * are applied.
 */
export const withOwnDefinition = (manifests: readonly Manifest[]): Manifest[] => {
  const defined = definedKinds(manifests);
  return manifests.filter(({ object }) => defined.has(kindOf(object)));
};

/** Errors that concern one object: the others can still be planned. */
const OBJECT_ERRORS: readonly ErrorCode[] = [
  'KUBE_CONFLICT',
  'KUBE_FORBIDDEN',
  'KUBE_KIND_UNKNOWN',
  'KUBE_NAMESPACE_MISSING',
  'KUBE_NOT_FOUND',
  'KUBE_REFUSED',
];

const isImmutableJob = ({ kind }: KubeObject, error: unknown): error is KubeError =>
  kind === 'Job' && error instanceof KubeError && error.status === 422 && error.immutable.length > 0;

/** Kubernetes does not retry a failed Job, even after its cause is fixed. */
const isFailedJob = (object: KubeObject): boolean =>
  object.kind === 'Job' && conditionOf(object as Job, 'Failed') !== undefined;

/**
 * Returns the error of a plan with refusals, or undefined. It names all of them and has the code of
 * the first.
 */
export function refusalOf({ objects }: Plan): FeedctlError | undefined {
  const refused = objects.filter(({ problem }) => problem !== null);
  const code = refused[0]?.problem?.code as ErrorCode | undefined;
  if (!code) return undefined;
  const lines = refused.map(
    ({ kind, name, source, problem }) => `${kind}/${name} (${source}): ${reason(problem!)}`,
  );
  const message = lines.join('; ');
  switch (code) {
    case 'KUBE_CONFLICT':
      return new FeedctlError('KUBE_CONFLICT', message);
    case 'KUBE_FORBIDDEN':
      return new FeedctlError('KUBE_FORBIDDEN', message);
    case 'KUBE_KIND_UNKNOWN':
      return new FeedctlError('KUBE_KIND_UNKNOWN', message);
    default:
      return new FeedctlError('KUBE_REFUSED', message);
  }
}

const reason = ({ message, conflicts }: NonNullable<PlannedObject['problem']>): string =>
  conflicts.length === 0
    ? message
    : conflicts.map(({ field, manager }) => `${field} is owned by ${manager}`).join(', ');

/**
 * Returns the Secrets that containers need and that are neither in the manifests nor in the
 * cluster.
 */
async function missingSecretsOf(
  kubernetes: Kubernetes,
  manifests: readonly Manifest[],
  namespace: string,
): Promise<string[]> {
  const included = new Set(manifests.map(({ object }) => nameOf(object)));
  const needed = new Map<string, string>();
  for (const { object } of manifests)
    for (const name of secretsIn(object.spec as Json))
      needed.set(name, object.metadata.namespace ?? namespace);
  const missing: string[] = [];
  for (const [name, inNamespace] of needed) {
    if (included.has(`Secret/${name}`)) continue;
    try {
      if (!(await kubernetes.exists(`/api/v1/namespaces/${inNamespace}/secrets/${name}`))) missing.push(name);
    } catch (error) {
      // Permission to apply does not include permission to read Secrets.
      if (!isFeedctlError(error, 'KUBE_FORBIDDEN')) throw error;
    }
  }
  return missing;
}

function secretsIn(value: Json | undefined): string[] {
  if (Array.isArray(value)) return value.flatMap(secretsIn);
  if (!isRecord(value)) return [];
  return Object.entries(value).flatMap(([field, one]) => {
    const name =
      field === 'secretRef' || field === 'secretKeyRef'
        ? isRecord(one) && one.name
        : field === 'secret'
          ? isRecord(one) && one.secretName
          : undefined;
    if (typeof name === 'string') return isRecord(one) && one.optional === true ? [] : [name];
    // Triggers of KEDA.
    if (field === 'secretTargetRef' && Array.isArray(one))
      return one.flatMap((ref) => (isRecord(ref) && typeof ref.name === 'string' ? [ref.name] : []));
    return secretsIn(one);
  });
}
