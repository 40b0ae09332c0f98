import { isRecord, type JsonObject, type KubeObject, type Manifest, nameOf } from '../object.ts';
import { generate, hashOf, renameReferences } from './configMap.ts';
import {
  directoryOf,
  invalid,
  isDirectory,
  kustomizationFile,
  parseYaml,
  pathFrom,
  readYaml,
  shownPath,
  type YamlDocument,
} from './file.ts';
import { jsonPatch, operationsSchema } from './jsonPatch.ts';
import { checkKustomization, type Image, type Kustomization } from './schema.ts';
import { strategicMerge } from './strategicMerge.ts';
import { imageOf, selects, setImages, setLabels, setNamespace, setReplicas } from './transform.ts';

interface Item {
  object: KubeObject;
  readonly source: string;
  /** A generated ConfigMap gets a hash of its data behind its name when everything else is done. */
  hashed?: boolean;
}

/**
 * The objects of a kustomization, as `kustomize build` makes them, or of one file of manifests. A strict part of
 * Kustomize: what is not understood is refused. `namespace` comes on top, as an overlay of one's own would say it;
 * `image` is what an image called feedctl becomes, instead of what a kustomization says. Throws MANIFEST_INVALID with file and line.
 */
export async function render(
  path: string,
  options: { namespace?: string | undefined; image?: string | undefined } = {},
): Promise<Manifest[]> {
  const image = options.image === undefined ? undefined : imageOf(options.image);
  const items = (await isDirectory(path))
    ? await build(path, [], 'Kustomization', { within: [], image })
    : await readObjects(path);
  if (options.namespace !== undefined)
    setNamespace(
      items.map((one) => one.object),
      options.namespace,
    );
  if (image) for (const { object } of items) setImages(object, [image]);
  addHashes(items);
  refuseDoubles(items);
  return items.map(({ object, source }) => ({ object, source }));
}

interface Building {
  /** The directories that led here. */
  readonly within: readonly string[];
  readonly image: Image | undefined;
}

/** `before`: what a component comes on top of. */
async function build(
  directory: string,
  before: Item[],
  kind: 'Kustomization' | 'Component',
  { within, image }: Building,
): Promise<Item[]> {
  const file = await kustomizationFile(directory);
  const shown = shownPath(file);
  if (within.includes(directory)) throw invalid(shown, 'it is part of itself');
  const [document, ...more] = await readYaml(file);
  if (!document || more.length > 0) throw invalid(shown, 'this has to be one YAML document');
  const wanted = checkKustomization(document);
  if ((wanted.kind ?? 'Kustomization') !== kind)
    throw invalid(shown, `this is a ${wanted.kind ?? 'Kustomization'}, and is used as a ${kind}`);
  const inside = { within: [...within, directory], image };
  let items = before;
  for (const resource of wanted.resources) {
    const path = local(directory, resource, document);
    items = [
      ...items,
      ...((await isDirectory(path))
        ? await build(path, [], 'Kustomization', inside)
        : await readObjects(path)),
    ];
  }
  for (const component of wanted.components)
    items = await build(local(directory, component, document), items, 'Component', inside);
  for (const args of wanted.configMapGenerator) {
    const made = await generate(args, wanted.generatorOptions, directory, document.source);
    const hashed = !(
      args.options?.disableNameSuffixHash ??
      wanted.generatorOptions?.disableNameSuffixHash ??
      false
    );
    items = withConfigMap(items, { object: made, source: document.source, hashed }, args.behavior);
  }
  const images = wanted.images.map((one) => (one.name === image?.name ? image : one));
  return transformed(items, { ...wanted, images }, document, directory);
}

function local(directory: string, path: string, { source }: YamlDocument): string {
  if (/^[a-z+]+:\/\/|^git@|^github\.com\/|\?ref=/.test(path))
    throw invalid(
      source,
      `${path}: only files and directories beside it are read, and nothing of the network`,
    );
  return pathFrom(directory, path);
}

function withConfigMap(items: Item[], made: Item, behavior: 'create' | 'merge' | 'replace'): Item[] {
  const { name } = made.object.metadata;
  const at = items.findIndex(({ object }) => object.kind === 'ConfigMap' && object.metadata.name === name);
  if (behavior === 'create') {
    if (at >= 0)
      throw invalid(made.source, `there is a ConfigMap ${name} already; behavior: merge would add to it`);
    return [...items, made];
  }
  const old = items[at];
  if (!old) throw invalid(made.source, `there is no ConfigMap ${name} to ${behavior}`);
  const data = (object: KubeObject) => object.data as JsonObject | undefined;
  const { object } = made;
  const merged: KubeObject = {
    ...old.object,
    metadata: {
      ...old.object.metadata,
      ...mergedStrings('labels', old.object, object),
      ...mergedStrings('annotations', old.object, object),
    },
    data: behavior === 'merge' ? { ...data(old.object), ...data(object) } : { ...data(object) },
  };
  return items.with(at, { ...old, object: merged });
}

function mergedStrings(field: 'labels' | 'annotations', old: KubeObject, made: KubeObject): object {
  const both = { ...old.metadata[field], ...made.metadata[field] };
  return Object.keys(both).length > 0 ? { [field]: both } : {};
}

async function transformed(
  items: Item[],
  wanted: Kustomization,
  { source }: YamlDocument,
  directory: string,
): Promise<Item[]> {
  let patched = items;
  for (const { path, patch, target } of wanted.patches) {
    const documents =
      path === undefined ? parseYaml(patch!, `${source} (patch)`) : await readYaml(pathFrom(directory, path));
    if (documents.length === 0) throw invalid(source, `the patch ${path ?? ''} is empty`);
    for (const document of documents) patched = withPatch(patched, document, target);
  }
  const objects = patched.map(({ object }) => object);
  if (wanted.namespace !== undefined) setNamespace(objects, wanted.namespace);
  for (const object of objects) setLabels(object, wanted.labels);
  for (const name of setReplicas(objects, wanted.replicas))
    throw invalid(source, `replicas: there is nothing to scale of the name ${name}`);
  for (const object of objects) setImages(object, wanted.images);
  return patched;
}

function withPatch(
  items: Item[],
  { value, source }: YamlDocument,
  target: Parameters<typeof selects>[0] | undefined,
): Item[] {
  const fail = (why: string) => invalid(source, why);
  const meant = target ?? ownTarget(value, fail);
  const matches = items.filter(({ object }) => selects(meant, object));
  // Kustomize passes over a target that nothing matches: a patch that was misspelt then does nothing.
  if (matches.length === 0) throw fail(`this patch matches nothing: ${JSON.stringify(meant)}`);
  const operations = Array.isArray(value) ? operationsSchema.safeParse(value) : undefined;
  if (operations && !operations.success) {
    const issue = operations.error.issues[0]!;
    throw fail(`${issue.path.join('.')}: ${issue.message}`);
  }
  return items.flatMap((item) => {
    if (!matches.includes(item)) return [item];
    const old = item.object as unknown as JsonObject;
    const { apiVersion, kind } = item.object;
    const context = { apiVersion, kind, fail: (why: string) => fail(`${nameOf(item.object)}: ${why}`) };
    if (operations)
      return [{ ...item, object: jsonPatch(old, operations.data, context.fail) as unknown as KubeObject }];
    const patch = value as JsonObject;
    if (patch.$patch === 'delete') return [];
    return [
      { ...item, object: strategicMerge(old, named(patch, item.object), context) as unknown as KubeObject },
    ];
  });
}

/** A patch with a target may bear any name: what it changes keeps its own. */
function named(patch: JsonObject, { apiVersion, kind, metadata }: KubeObject): JsonObject {
  const own = isRecord(patch.metadata) ? patch.metadata : {};
  return { ...patch, apiVersion, kind, metadata: { ...own, name: metadata.name } };
}

/** A strategic merge patch without a target names the one object it is for. */
function ownTarget(
  value: YamlDocument['value'],
  fail: (why: string) => Error,
): Parameters<typeof selects>[0] {
  if (Array.isArray(value)) throw fail('a JSON patch needs a target');
  const { apiVersion, kind, metadata } = value;
  if (
    typeof apiVersion !== 'string' ||
    typeof kind !== 'string' ||
    !isRecord(metadata) ||
    typeof metadata.name !== 'string'
  )
    throw fail('a patch without a target needs apiVersion, kind and metadata.name');
  const cut = apiVersion.lastIndexOf('/');
  const quoted = (text: string) => text.replaceAll(/[.*+?^${}()|[\]\\]/g, '\\$&');
  return {
    group: quoted(apiVersion.slice(0, Math.max(0, cut))),
    version: quoted(apiVersion.slice(cut + 1)),
    kind: quoted(kind),
    name: quoted(metadata.name),
  };
}

async function readObjects(path: string): Promise<Item[]> {
  const documents = await readYaml(path);
  if (documents.length === 0) throw invalid(shownPath(path), 'there is no object in this file');
  return documents.map(({ value, source }) => {
    if (Array.isArray(value)) throw invalid(source, 'this is a list, and no object of Kubernetes');
    const { apiVersion, kind, metadata } = value;
    for (const [field, one] of Object.entries({ apiVersion, kind }))
      if (typeof one !== 'string' || one === '') throw invalid(source, `${field} is missing`);
    if (!isRecord(metadata) || typeof metadata.name !== 'string' || metadata.name === '')
      throw invalid(source, 'metadata.name is missing');
    if (String(apiVersion).startsWith('kustomize.config.k8s.io/'))
      throw invalid(source, `name the directory ${shownPath(directoryOf(path))} and not its kustomization`);
    return { object: value as unknown as KubeObject, source };
  });
}

function addHashes(items: readonly Item[]): void {
  const names = new Map<string, string>();
  for (const { object, hashed } of items) {
    if (!hashed) continue;
    const name = `${object.metadata.name}-${hashOf(object)}`;
    names.set(object.metadata.name, name);
    object.metadata.name = name;
  }
  if (names.size > 0) for (const { object } of items) renameReferences(object, names);
}

function refuseDoubles(items: readonly Item[]): void {
  const seen = new Map<string, string>();
  for (const { object, source } of items) {
    const { apiVersion, kind, metadata } = object;
    const key = [apiVersion.replace(/\/[^/]*$/, ''), kind, metadata.namespace ?? '', metadata.name].join(' ');
    const first = seen.get(key);
    if (first !== undefined) throw invalid(source, `${nameOf(object)} is in ${first} already`);
    seen.set(key, source);
  }
}
