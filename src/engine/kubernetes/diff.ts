import { isDeepStrictEqual } from 'node:util';
import { isRecord, type Json, type JsonObject, type KubeObject } from './object.ts';

/** A field that an apply would change. */
export interface FieldChange {
  /** spec.template.spec.containers[name=worker].image */
  readonly path: string;
  /** JSON of the value; null if the field does not exist. */
  readonly from: string | null;
  readonly to: string | null;
}

/** Metadata that the server maintains. */
const SERVER_METADATA = [
  'managedFields',
  'resourceVersion',
  'generation',
  'uid',
  'creationTimestamp',
  'selfLink',
];
/** Fields that a controller changes after every change of a template. */
const CONTROLLER_FIELDS = ['metadata.annotations.deployment.kubernetes.io/revision'];

/** Returns the fields that differ between `before` and `after`. Values of Secrets are masked. */
export function fieldChanges(before: KubeObject, after: KubeObject): FieldChange[] {
  const changes: FieldChange[] = [];
  compare(bare(before), bare(after), '', changes);
  return changes
    .filter(({ path }) => !CONTROLLER_FIELDS.includes(path))
    .map((change) =>
      after.kind === 'Secret' && /^(?:data|stringData)\b/.test(change.path) ? masked(change) : change,
    );
}

function bare(object: KubeObject): JsonObject {
  const { status, metadata, ...rest } = object;
  const own = Object.entries(metadata).filter(([field]) => !SERVER_METADATA.includes(field));
  return { ...rest, metadata: Object.fromEntries(own) } as JsonObject;
}

const masked = ({ path, from, to }: FieldChange): FieldChange => ({
  path,
  from: from && '***',
  to: to && '***',
});

function compare(from: Json | undefined, to: Json | undefined, path: string, changes: FieldChange[]): void {
  if (isDeepStrictEqual(from, to)) return;
  if (isRecord(from) && isRecord(to)) {
    for (const field of new Set([...Object.keys(from), ...Object.keys(to)]))
      compare(from[field], to[field], path === '' ? field : `${path}.${field}`, changes);
    return;
  }
  const key = Array.isArray(from) && Array.isArray(to) ? keyOf(from, to) : undefined;
  if (key !== undefined) {
    const [old, next] = [from as JsonObject[], to as JsonObject[]];
    const find = (list: JsonObject[], name: Json | undefined) => list.find((one) => one[key] === name);
    for (const name of new Set([...old, ...next].map((one) => one[key])))
      compare(find(old, name), find(next, name), `${path}[${key}=${name}]`, changes);
    return;
  }
  changes.push({ path, from: shown(from), to: shown(to) });
}

/** Returns the field that identifies elements of a list, so that an added element is one change. */
function keyOf(from: readonly Json[], to: readonly Json[]): string | undefined {
  const all = [...from, ...to];
  if (all.length === 0 || !all.every(isRecord)) return undefined;
  const unique = (list: readonly Json[], key: string) => {
    const names = list.map((one) => (one as JsonObject)[key]);
    return (
      names.every((name) => typeof name === 'string' || typeof name === 'number') &&
      new Set(names).size === names.length
    );
  };
  return ['name', 'mountPath', 'containerPort', 'topologyKey', 'type'].find(
    (key) => unique(from, key) && unique(to, key),
  );
}

const shown = (value: Json | undefined): string | null =>
  value === undefined ? null : JSON.stringify(value);
