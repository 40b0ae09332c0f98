import { isRecord, type Json, type JsonObject } from '../object.ts';

/** Lists of Kubernetes' own kinds whose elements have a name: by the list's field, the field that names an element. */
const KEYS: Readonly<Record<string, string>> = {
  containers: 'name',
  initContainers: 'name',
  volumes: 'name',
  env: 'name',
  volumeMounts: 'mountPath',
  imagePullSecrets: 'name',
  hostAliases: 'ip',
  topologySpreadConstraints: 'topologyKey',
};

/** Groups of kinds that the API server itself serves. Of any other, lists are replaced as a whole. */
const BUILT_IN =
  /^(?:v1$|apps\/|batch\/|policy\/|autoscaling\/|(?:networking|rbac\.authorization|storage|scheduling|apiextensions)\.k8s\.io\/)/;

export interface MergeContext {
  readonly apiVersion: string;
  readonly kind: string;
  /** For a patch that cannot be merged. */
  readonly fail: (why: string) => Error;
}

/** The element's name in a list of this field, or undefined where the list is one value. */
function keyOf(field: string, { apiVersion, kind }: MergeContext): string | undefined {
  if (!BUILT_IN.test(apiVersion)) return undefined;
  if (field === 'ports') return kind === 'Service' ? 'port' : 'containerPort';
  return KEYS[field];
}

/**
 * `target` with a strategic merge patch applied: objects are merged, null removes, lists are replaced, except those whose
 * elements have a name: these are merged, and those that the patch names come first, as in Kustomize. `$patch: delete` and `replace` are understood.
 */
export function strategicMerge(target: JsonObject, patch: JsonObject, context: MergeContext): JsonObject {
  const merged: JsonObject = { ...target };
  const directive = directiveOf(patch, context);
  if (directive === 'replace') return stripped(patch);
  for (const [field, value] of Object.entries(patch)) {
    if (field === '$patch') continue;
    if (field.startsWith('$')) throw context.fail(`${field} is not understood in a patch`);
    if (value === null) delete merged[field];
    else merged[field] = mergedValue(merged[field], value, field, context);
    if (isRecord(value) && directiveOf(value, context) === 'delete') delete merged[field];
  }
  return merged;
}

function mergedValue(target: Json | undefined, value: Json, field: string, context: MergeContext): Json {
  if (isRecord(value)) return strategicMerge(isRecord(target) ? target : {}, value, context);
  const key = Array.isArray(value) ? keyOf(field, context) : undefined;
  if (!Array.isArray(value) || key === undefined) return value;
  return mergedList(Array.isArray(target) ? target : [], value, key, field, context);
}

function mergedList(
  target: readonly Json[],
  patch: readonly Json[],
  key: string,
  field: string,
  context: MergeContext,
): Json[] {
  const elements = patch.map((element) => {
    if (!isRecord(element) || (element[key] === undefined && element.$patch !== 'replace'))
      throw context.fail(`an element of ${field} has no ${key}`);
    return element;
  });
  if (elements.some((one) => one[key] === undefined))
    return elements.filter((one) => one[key] !== undefined).map(stripped);
  const find = (list: readonly Json[], name: Json | undefined) =>
    list.find((one): one is JsonObject => isRecord(one) && one[key] === name);
  const named = elements
    .filter((one) => directiveOf(one, context) !== 'delete')
    .map((one) => strategicMerge(find(target, one[key]) ?? {}, one, context));
  return [...named, ...target.filter((one) => !isRecord(one) || !find(elements, one[key]))];
}

function directiveOf(patch: JsonObject, context: MergeContext): 'delete' | 'replace' | 'merge' {
  const directive = patch.$patch ?? 'merge';
  if (directive === 'delete' || directive === 'replace' || directive === 'merge') return directive;
  throw context.fail(`$patch may be delete, replace or merge, not ${JSON.stringify(directive)}`);
}

const stripped = ({ $patch, ...rest }: JsonObject): JsonObject => rest;
