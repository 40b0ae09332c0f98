import { isFeedctlError } from '../model/errors.ts';
import { FIELD_MANAGER, type Kubernetes } from './client.ts';
import { isRecord, type Json, type KubeObject, type Manifest, nameOf } from './object.ts';
import { OF_FEEDCTL, PART_OF } from './pods.ts';

/** An object that an earlier apply created and that the manifests no longer contain. */
export interface PruneCandidate {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  /** Another object of the same name has another uid, and is not deleted. */
  readonly uid: string;
}

/**
 * Kinds that may be deleted, in the order of the deletion: autoscalers and monitors before their
 * targets. Objects with data or secrets (PersistentVolumeClaims, Secrets), Namespaces, definitions
 * and cluster-wide objects are never deleted.
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

/** Asks for objects without their content. */
const METADATA_ONLY = 'application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1';

/**
 * Returns whether the manifests are a whole installation. With a part, everything else would be a
 * prune candidate.
 */
export const checkComplete = (manifests: readonly Manifest[]): boolean =>
  manifests.some(
    ({ object: { kind, metadata } }) =>
      kind === 'Deployment' && metadata.labels?.[PART_OF.label] === PART_OF.value,
  );

/**
 * Returns the objects of a namespace that have feedctl's label, were applied by feedctl only, have
 * no owner, and are not in the manifests. Returns none if the manifests are a part. ConfigMaps of
 * revisions that a deployment can roll back to are kept. Kinds that may not be listed are skipped.
 */
export async function findPruneCandidates(
  kubernetes: Kubernetes,
  manifests: readonly Manifest[],
  namespace: string,
): Promise<PruneCandidate[]> {
  if (!checkComplete(manifests)) return [];
  const included = new Set(manifests.map(({ object }) => nameOf(object)));
  const found: PruneCandidate[] = [];
  for (const [apiVersion, kind] of KINDS) {
    const objects = await objectsOf(kubernetes, { apiVersion, kind }, namespace);
    for (const { metadata } of objects) {
      const { name, uid } = metadata;
      if (included.has(`${kind}/${name}`) || metadata.deletionTimestamp || metadata.ownerReferences?.length)
        continue;
      if (uid && isAppliedByFeedctlOnly(metadata)) found.push({ apiVersion, kind, name, uid });
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
      { accept: METADATA_ONLY },
    );
  } catch (error) {
    const skipped = ['KUBE_KIND_UNKNOWN', 'KUBE_FORBIDDEN', 'KUBE_NOT_FOUND'] as const;
    if (skipped.some((code) => isFeedctlError(error, code))) return [];
    throw error;
  }
}

/**
 * An object that another manager applies too, such as a GitOps controller, is in other manifests.
 */
function isAppliedByFeedctlOnly({ managedFields = [] }: KubeObject['metadata']): boolean {
  const appliers = managedFields.filter(({ operation }) => operation === 'Apply');
  return appliers.length > 0 && appliers.every(({ manager }) => manager === FIELD_MANAGER);
}

/**
 * Returns the ConfigMaps that pods of any revision need; undefined if revisions may not be listed.
 */
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

/** Deletes the candidates, except those that were created again since they were found. */
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
      // Another client has deleted it.
      if (!isFeedctlError(error, 'KUBE_NOT_FOUND')) throw error;
    }
  }
}
