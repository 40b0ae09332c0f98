import { groupOf, isRecord, type Json, type JsonObject, type KubeObject } from '../object.ts';
import type { Image, Kustomization } from './schema.ts';

/** Kinds that are in no namespace. A kind of somebody else's that is not either cannot be in a kustomization with one. */
const CLUSTER_WIDE = new Set([
  'APIService',
  'ClusterRole',
  'ClusterRoleBinding',
  'CustomResourceDefinition',
  'IngressClass',
  'MutatingWebhookConfiguration',
  'Namespace',
  'PersistentVolume',
  'PriorityClass',
  'RuntimeClass',
  'StorageClass',
  'ValidatingAdmissionPolicy',
  'ValidatingAdmissionPolicyBinding',
  'ValidatingWebhookConfiguration',
]);

const isBinding = ({ kind }: KubeObject): boolean => kind === 'RoleBinding' || kind === 'ClusterRoleBinding';

export function setNamespace(objects: readonly KubeObject[], namespace: string): void {
  const accounts = new Set(
    objects.filter(({ kind }) => kind === 'ServiceAccount').map(({ metadata }) => metadata.name),
  );
  for (const object of objects) {
    if (object.kind === 'Namespace') object.metadata.name = namespace;
    else if (!CLUSTER_WIDE.has(object.kind)) object.metadata.namespace = namespace;
    if (!isBinding(object)) continue;
    for (const subject of (object.subjects ?? []) as JsonObject[])
      if (
        subject.kind === 'ServiceAccount' &&
        (subject.name === 'default' || accounts.has(subject.name as string))
      )
        subject.namespace = namespace;
  }
}

const TEMPLATED = new Set(['Deployment', 'StatefulSet', 'DaemonSet', 'ReplicaSet', 'Job']);

export function setLabels(object: KubeObject, labels: Kustomization['labels']): void {
  for (const { pairs, includeTemplates } of labels) {
    object.metadata.labels = { ...object.metadata.labels, ...pairs };
    if (!includeTemplates) continue;
    for (const metadata of templatesOf(object))
      metadata.labels = { ...(metadata.labels as JsonObject), ...pairs };
  }
}

/** The metadata of what is made after this object. */
function templatesOf(object: KubeObject): JsonObject[] {
  const child = (holder: JsonObject, field: string): JsonObject => {
    const at = isRecord(holder[field]) ? (holder[field] as JsonObject) : {};
    holder[field] = at;
    return at;
  };
  const spec = object.spec as JsonObject;
  if (TEMPLATED.has(object.kind)) return [child(child(spec, 'template'), 'metadata')];
  if (object.kind !== 'CronJob') return [];
  const job = child(spec, 'jobTemplate');
  return [child(job, 'metadata'), child(child(child(job, 'spec'), 'template'), 'metadata')];
}

/** `name`, `name:tag` or `name@digest`; a port of the registry is part of the name. */
const IMAGE = /^(?<name>.*?)(?<rest>(?::[\w][\w.-]{0,127})?(?:@[\w:+.-]+)?)$/;

/** What an image called feedctl becomes. */
export function imageOf(image: string): Image {
  const { name, rest } = IMAGE.exec(image)!.groups!;
  const [, tag, digest] = /^(?::([^@]*))?(?:@(.*))?$/.exec(rest!)!;
  return {
    name: 'feedctl',
    newName: name!,
    ...(tag !== undefined && { newTag: tag }),
    ...(digest !== undefined && { digest }),
  };
}

export function setImages(object: KubeObject, images: readonly Image[]): void {
  const walk = (value: Json) => {
    if (Array.isArray(value)) for (const one of value) walk(one);
    else if (isRecord(value)) {
      for (const [field, one] of Object.entries(value)) {
        if ((field === 'containers' || field === 'initContainers') && Array.isArray(one))
          for (const container of one)
            if (isRecord(container) && typeof container.image === 'string')
              container.image = images.reduce(renamed, container.image);
        walk(one);
      }
    }
  };
  if (isRecord(object.spec as Json)) walk(object.spec as Json);
}

function renamed(image: string, { name, newName, newTag, digest }: Image): string {
  const parts = IMAGE.exec(image)!.groups!;
  if (parts.name !== name) return image;
  const rest =
    digest !== undefined
      ? `${newTag ? `:${newTag}` : ''}@${digest}`
      : newTag !== undefined
        ? `:${newTag}`
        : parts.rest!;
  return `${newName ?? name}${rest}`;
}

const SCALED = new Set(['Deployment', 'StatefulSet', 'ReplicaSet', 'ReplicationController']);

/** Returns the names that nothing has. */
export function setReplicas(objects: readonly KubeObject[], replicas: Kustomization['replicas']): string[] {
  return replicas.flatMap(({ name, count }) => {
    const found = objects.filter((one) => SCALED.has(one.kind) && one.metadata.name === name);
    for (const one of found) (one.spec as JsonObject).replicas = count;
    return found.length === 0 ? [name] : [];
  });
}

/** Whether the object is one that a patch is meant for. Names and kinds are whole regular expressions. */
export function selects(
  target: {
    group?: string | undefined;
    version?: string | undefined;
    kind?: string | undefined;
    name?: string | undefined;
    namespace?: string | undefined;
  },
  { apiVersion, kind, metadata }: KubeObject,
): boolean {
  const version = apiVersion.slice(apiVersion.indexOf('/') + 1);
  const matches = (pattern: string | undefined, value: string) =>
    pattern === undefined || new RegExp(`^(?:${pattern})$`).test(value);
  return (
    matches(target.group, groupOf(apiVersion)) &&
    matches(target.version, version) &&
    matches(target.kind, kind) &&
    matches(target.name, metadata.name) &&
    matches(target.namespace, metadata.namespace ?? 'default')
  );
}
