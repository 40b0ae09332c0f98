import { isFeedctlError } from '../model/errors.ts';
import { FIELD_MANAGER, type Kubernetes } from './client.ts';
import { isRecord, type Json, type KubeObject, type Manifest, nameOf } from './object.ts';
import { OF_FEEDCTL, PART_OF } from './pods.ts';

/** An object that an earlier apply made, and that the manifests do not hold any more. */
export interface PruneCandidate {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  /** Of the very object that was looked at: another one of its name is not deleted. */
  readonly uid: string;
}

/**
 * What may be deleted, in the order in which it is: what scales and watches before what it is about. Never what holds data or
 * secrets (PersistentVolumeClaims, Secrets), what others may need (Namespaces, definitions), or what is in no namespace.
 */
const KINDS = [
  ['keda.sh/v1alpha1', 'ScaledObject'],
  ['keda.sh/v1alpha1', 'TriggerAuthentication'],
  ['autoscaling/v2', 'HorizontalPodAutoscaler'],
  ['monitoring.coreos.com/v1', 'PodMonitor'],
  ['monitoring.coreos.com/v1', 'ServiceMonitor'],
  ['monitoring.coreos.com/v1', 'PrometheusRule'],
  ['apps/v1', 'Deployment'],
  ['batch/v1', 'Job'],
  ['policy/v1', 'PodDisruptionBudget'],
  ['v1', 'Service'],
  ['networking.k8s.io/v1', 'NetworkPolicy'],
  ['rbac.authorization.k8s.io/v1', 'RoleBinding'],
  ['rbac.authorization.k8s.io/v1', 'Role'],
  ['v1', 'ServiceAccount'],
  ['v1', 'ConfigMap'],
] as const;

/** Without what an object holds, which nobody needs here. */
const METADATA = 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1';

/** Whether these are feedctl as a whole: of a part, such as one file, everything else would look left over. */
export const checkComplete = (manifests: readonly Manifest[]): boolean =>
  manifests.some(
    ({ object: { kind, metadata } }) =>
      kind === 'Deployment' && metadata.labels?.[PART_OF.label] === PART_OF.value,
  );

/**
 * What bears feedctl's label in the namespace, was applied by feedctl and by nobody else, belongs to no other object, and is
 * not in the manifests; none where those are a part only. ConfigMaps of a revision that a deployment can still go back to are kept, and kinds that may not
 * be listed are left out.
 */
export async function findPruneCandidates(
  kubernetes: Kubernetes,
  manifests: readonly Manifest[],
  namespace: string,
): Promise<PruneCandidate[]> {
  if (!checkComplete(manifests)) return [];
  const held = new Set(manifests.map(({ object }) => nameOf(object)));
  const found: PruneCandidate[] = [];
  for (const [apiVersion, kind] of KINDS) {
    const objects = await objectsOf(kubernetes, { apiVersion, kind }, namespace);
    for (const { metadata } of objects) {
      const { name, uid } = metadata;
      if (held.has(`${kind}/${name}`) || metadata.deletionTimestamp || metadata.ownerReferences?.length)
        continue;
      if (uid && isOurs({ metadata })) found.push({ apiVersion, kind, name, uid });
    }
  }
  if (!found.some(({ kind }) => kind === 'ConfigMap')) return found;
  const used = await configMapsOfRevisions(kubernetes, namespace);
  return found.filter(({ kind, name }) => kind !== 'ConfigMap' || (used && !used.has(name)));
}

async function objectsOf(
  kubernetes: Kubernetes,
  of: { apiVersion: string; kind: string },
  namespace: string,
): Promise<Pick<KubeObject, 'metadata'>[]> {
  try {
    const path = await kubernetes.pathOf({ ...of, metadata: { name: '' } }, namespace);
    return await kubernetes.list(
      path.replace(/\/$/, ''),
      { labelSelector: OF_FEEDCTL },
      { accept: METADATA },
    );
  } catch (error) {
    const passed = ['KUBE_KIND_UNKNOWN', 'KUBE_FORBIDDEN', 'KUBE_NOT_FOUND'] as const;
    if (passed.some((code) => isFeedctlError(error, code))) return [];
    throw error;
  }
}

/** Somebody else who applies it, such as a GitOps controller, has it in manifests of their own. */
function isOurs({ metadata }: Pick<KubeObject, 'metadata'>): boolean {
  const appliers = (metadata.managedFields ?? []).filter(({ operation }) => operation === 'Apply');
  return appliers.length > 0 && appliers.every(({ manager }) => manager === FIELD_MANAGER);
}

/** What a pod of an older revision would not start without; undefined where it may not be asked. */
async function configMapsOfRevisions(
  kubernetes: Kubernetes,
  namespace: string,
): Promise<ReadonlySet<string> | undefined> {
  const path = `/apis/apps/v1/namespaces/${namespace}/replicasets`;
  try {
    const sets = await kubernetes.list<KubeObject>(path, { labelSelector: OF_FEEDCTL });
    return new Set(sets.flatMap(({ spec }) => configMapsIn(spec as Json)));
  } catch (error) {
    if (isFeedctlError(error, 'KUBE_FORBIDDEN')) return undefined;
    throw error;
  }
}

function configMapsIn(value: Json | undefined): string[] {
  if (Array.isArray(value)) return value.flatMap(configMapsIn);
  if (!isRecord(value)) return [];
  return Object.entries(value).flatMap(([field, one]) =>
    ['configMapRef', 'configMapKeyRef', 'configMap'].includes(field) &&
    isRecord(one) &&
    typeof one.name === 'string'
      ? [one.name]
      : configMapsIn(one),
  );
}

/** Deletes them, each unless it was made anew since it was looked at. */
export async function prune(
  kubernetes: Kubernetes,
  leftovers: readonly PruneCandidate[],
  namespace: string,
  onStep?: (step: string) => void,
): Promise<void> {
  for (const { apiVersion, kind, name, uid } of leftovers) {
    onStep?.(`deleting ${kind}/${name}`);
    const path = await kubernetes.pathOf({ apiVersion, kind, metadata: { name } }, namespace);
    try {
      await kubernetes.delete(path, { uid });
    } catch (error) {
      // Somebody was faster.
      if (!isFeedctlError(error, 'KUBE_NOT_FOUND')) throw error;
    }
  }
}
