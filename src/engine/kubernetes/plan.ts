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
 *     added      it is made
 *     changed    fields of it are
 *     unchanged  nothing
 *     replaced   it is deleted and made anew: a Job whose template differs, which cannot be changed, or that has failed
 *     unchecked  it is made in a namespace that is not there yet, or of a kind that the manifests bring along: the server can
 *                say no more before
 *     refused    the server does not take it: nothing of the plan is applied
 */
export type Action = 'added' | 'changed' | 'unchanged' | 'replaced' | 'unchecked' | 'refused';

export interface PlannedObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  /** Null for what is in no namespace. */
  readonly namespace: string | null;
  /** file:line */
  readonly source: string;
  readonly action: Action;
  readonly fields: readonly FieldChange[];
  /** Why it is refused. */
  readonly problem: { code: string; message: string; conflicts: readonly FieldConflict[] } | null;
}

export interface Plan {
  readonly server: string;
  readonly namespace: string;
  readonly objects: readonly PlannedObject[];
  /** Secrets that pods need and that are not there: they would wait for them. */
  readonly missingSecrets: readonly string[];
  /** Objects of earlier manifests. They stay, unless they are asked to be deleted. */
  readonly leftovers: readonly PruneCandidate[];
}

export interface PlanOptions {
  readonly namespace: string;
  readonly forceConflicts: boolean;
}

const CONCURRENCY = 4;
/** Kinds by when they have to be there; those that others serve come last. */
const ORDER = [
  ['CustomResourceDefinition', 'Namespace', 'PriorityClass'],
  ['ServiceAccount', 'Role', 'ClusterRole'],
  ['RoleBinding', 'ClusterRoleBinding'],
  ['Secret', 'ConfigMap', 'NetworkPolicy', 'Service', 'PodDisruptionBudget'],
  ['Job'],
  ['Deployment', 'StatefulSet', 'DaemonSet'],
  ['HorizontalPodAutoscaler', 'TriggerAuthentication'],
];

/** In the order in which they are applied. */
export function ordered(manifests: readonly Manifest[]): Manifest[] {
  const rank = ({ object }: Manifest) => {
    const at = ORDER.findIndex((kinds) => kinds.includes(object.kind));
    return at < 0 ? ORDER.length : at;
  };
  return manifests.toSorted((a, b) => rank(a) - rank(b));
}

/**
 * What applying would do, as the server says it (a dry run of each object): changes nothing. Refusals of single objects are
 * part of it. Throws KUBE_UNREACHABLE, KUBE_UNAUTHORIZED, KUBE_FORBIDDEN where nothing may be looked at, or KUBE_NAMESPACE_MISSING where the manifests do
 * not hold the namespace either.
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

/** Those of the manifests that the cluster does not have. */
async function missingNamespaces(
  kubernetes: Kubernetes,
  manifests: readonly Manifest[],
  namespace: string,
): Promise<ReadonlySet<string>> {
  const made = new Set(
    manifests.filter(({ object }) => object.kind === 'Namespace').map(({ object }) => object.metadata.name),
  );
  const used = new Set(manifests.map(({ object }) => object.metadata.namespace ?? namespace));
  const missing = new Set<string>();
  for (const name of new Set([...made, ...used])) {
    if (await namespaceExists(kubernetes, name)) continue;
    if (!made.has(name)) throw new FeedctlError('KUBE_NAMESPACE_MISSING', `there is no namespace ${name}`);
    missing.add(name);
  }
  return missing;
}

/** Who may not look at namespaces works in one that is there: what it refuses is heard of later. */
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
  options: PlanOptions & { missing: ReadonlySet<string>; defined: ReadonlyMap<string, 'inside' | 'outside'> },
): Promise<PlannedObject> {
  const { apiVersion, kind, metadata } = object;
  const inside = metadata.namespace ?? options.namespace;
  const planned = { apiVersion, kind, name: metadata.name, source, fields: [], problem: null };
  let namespace: string | null = inside;
  try {
    const path = await kubernetes.pathOf(object, inside);
    if (!path.includes(`/namespaces/${inside}/`) || kind === 'Namespace') namespace = null;
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
    if (hasFailed(live)) return { ...planned, namespace, action: 'replaced' };
    const fields = fieldChanges(live, wanted);
    return { ...planned, namespace, action: fields.length > 0 ? 'changed' : 'unchanged', fields };
  } catch (error) {
    if (!isFeedctlError(error) || !OF_ONE_OBJECT.includes(error.code)) throw error;
    const where = options.defined.get(kindOf(object));
    if (where && error.code === 'KUBE_KIND_UNKNOWN')
      return { ...planned, namespace: where === 'inside' ? inside : null, action: 'unchecked' };
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

interface Definition {
  readonly group: string;
  readonly scope: string;
  readonly names: { readonly kind: string };
  readonly versions: readonly { readonly name: string; readonly served: boolean }[];
}

/** The kinds that manifests bring along, and whether their objects are in a namespace. */
export function definedKinds(manifests: readonly Manifest[]): Map<string, 'inside' | 'outside'> {
  const definitions = manifests.filter(({ object }) => object.kind === 'CustomResourceDefinition');
  return new Map(
    definitions.flatMap(({ object }) => {
      const { group, scope, names, versions } = object.spec as Definition;
      const where = scope === 'Namespaced' ? ('inside' as const) : ('outside' as const);
      return versions
        .filter(({ served }) => served)
        .map(({ name }) => [`${group}/${name} ${names.kind}`, where] as const);
    }),
  );
}

/** What the manifests themselves define: their kind is served only when that has been applied. */
export const areDefined = (manifests: readonly Manifest[]): Manifest[] => {
  const defined = definedKinds(manifests);
  return manifests.filter(({ object }) => defined.has(kindOf(object)));
};

/** What is wrong with one object, and says nothing of the others. */
const OF_ONE_OBJECT: readonly ErrorCode[] = [
  'KUBE_CONFLICT',
  'KUBE_FORBIDDEN',
  'KUBE_KIND_UNKNOWN',
  'KUBE_NAMESPACE_MISSING',
  'KUBE_NOT_FOUND',
  'KUBE_REFUSED',
];

const isImmutableJob = ({ kind }: KubeObject, error: unknown): error is KubeError =>
  kind === 'Job' && error instanceof KubeError && error.status === 422 && error.immutable.length > 0;

/** A Job that has failed is not tried again by itself, whatever was mended since. */
const hasFailed = (object: KubeObject): boolean =>
  object.kind === 'Job' && conditionOf(object as Job, 'Failed') !== undefined;

/** The error for a plan that cannot be applied, or undefined. All refusals are named, the first one gives the code. */
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

/** Secrets that containers cannot start without, in no manifest and not in the cluster. */
async function missingSecretsOf(
  kubernetes: Kubernetes,
  manifests: readonly Manifest[],
  namespace: string,
): Promise<string[]> {
  const held = new Set(manifests.map(({ object }) => nameOf(object)));
  const needed = new Map<string, string>();
  for (const { object } of manifests)
    for (const name of secretsIn(object.spec as Json))
      needed.set(name, object.metadata.namespace ?? namespace);
  const missing: string[] = [];
  for (const [name, inside] of needed) {
    if (held.has(`Secret/${name}`)) continue;
    try {
      if (!(await kubernetes.exists(`/api/v1/namespaces/${inside}/secrets/${name}`))) missing.push(name);
    } catch (error) {
      // Not everybody who may apply may look at secrets.
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
    // KEDA's triggers.
    if (field === 'secretTargetRef' && Array.isArray(one))
      return one.flatMap((ref) => (isRecord(ref) && typeof ref.name === 'string' ? [ref.name] : []));
    return secretsIn(one);
  });
}
