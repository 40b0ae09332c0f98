import { isRecord, type Json, type JsonObject, type KubeObject } from './object.ts';

/** Kinds of Kubernetes itself that are in no namespace. */
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

/**
 * Moves objects to a namespace, as `namespace` of a kustomization does: Namespaces get that name,
 * and so do the service accounts among the subjects of role bindings, if they are part of the
 * objects.
 */
export function setNamespace(objects: readonly KubeObject[], namespace: string): void {
  const accounts = new Set(
    objects.filter(({ kind }) => kind === 'ServiceAccount').map(({ metadata }) => metadata.name),
  );
  accounts.add('default');
  for (const object of objects) {
    if (object.kind === 'Namespace') object.metadata.name = namespace;
    else if (!CLUSTER_WIDE.has(object.kind)) object.metadata.namespace = namespace;
    if (object.kind !== 'RoleBinding' && object.kind !== 'ClusterRoleBinding') continue;
    for (const subject of (object.subjects ?? []) as JsonObject[])
      if (subject.kind === 'ServiceAccount' && accounts.has(subject.name as string))
        subject.namespace = namespace;
  }
}

/** An image is `name`, `name:tag` or `name@digest`; the name may hold the port of a registry. */
const IMAGE = /^(?<name>.*?)(?::[\w][\w.-]{0,127})?(?:@[\w:+.-]+)?$/;
const nameOfImage = (image: string): string => IMAGE.exec(image)?.groups?.name ?? image;

/**
 * Gives `image` to each container that runs feedctl: its image is named `feedctl` in any registry,
 * or has the name of `image`. Returns whether there is one.
 */
export function setImage(objects: readonly KubeObject[], image: string): boolean {
  const runsFeedctl = (old: string) =>
    /(?:^|\/)feedctl$/.test(nameOfImage(old)) || nameOfImage(old) === nameOfImage(image);
  const containers = objects.flatMap(({ spec }) => containersIn(spec as Json));
  const ours = containers.filter((one) => typeof one.image === 'string' && runsFeedctl(one.image));
  for (const container of ours) container.image = image;
  return ours.length > 0;
}

/**
 * Returns the containers in pod templates at any depth: those of a CronJob are deeper than those of
 * a Deployment.
 */
function containersIn(value: Json | undefined): JsonObject[] {
  if (Array.isArray(value)) return value.flatMap(containersIn);
  if (!isRecord(value)) return [];
  return Object.entries(value).flatMap(([field, one]) =>
    (field === 'containers' || field === 'initContainers') && Array.isArray(one)
      ? one.filter(isRecord)
      : containersIn(one),
  );
}
