import { isUtf8 } from 'node:buffer';
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { isRecord, type Json, type JsonObject, type KubeObject } from '../object.ts';
import { invalid, pathFrom, shownPath } from './file.ts';
import type { ConfigMapArgs, GeneratorOptions } from './schema.ts';

/** The data of a generated ConfigMap: literals `KEY=value`, files `path` or `key=path`. Throws MANIFEST_INVALID. */
export async function generate(
  args: ConfigMapArgs,
  shared: GeneratorOptions | undefined,
  directory: string,
  source: string,
): Promise<KubeObject> {
  const data: Record<string, string> = {};
  const set = (key: string, value: string) => {
    if (Object.hasOwn(data, key))
      throw invalid(source, `the ConfigMap ${args.name} gets ${key} more than once`);
    data[key] = value;
  };
  for (const literal of args.literals) {
    const cut = literal.indexOf('=');
    if (cut < 1) throw invalid(source, `${JSON.stringify(literal)} is no literal such as KEY=value`);
    set(literal.slice(0, cut), literal.slice(cut + 1).replace(/^(["'])(.*)\1$/s, '$2'));
  }
  for (const file of args.files) {
    const cut = file.indexOf('=');
    const path = pathFrom(directory, file.slice(cut + 1));
    const content = await readFile(path).catch((error) => {
      throw invalid(source, `${shownPath(path)} cannot be read`, error);
    });
    if (!isUtf8(content)) throw invalid(source, `${shownPath(path)} is no text`);
    set(cut > 0 ? file.slice(0, cut) : basename(path), content.toString('utf8'));
  }
  const labels = { ...shared?.labels, ...args.options?.labels };
  const annotations = { ...shared?.annotations, ...args.options?.annotations };
  return {
    apiVersion: 'v1',
    kind: 'ConfigMap',
    metadata: {
      name: args.name,
      ...(Object.keys(labels).length > 0 && { labels }),
      ...(Object.keys(annotations).length > 0 && { annotations }),
    },
    ...(Object.keys(data).length > 0 && { data }),
  };
}

/** What Kustomize puts behind the name of a ConfigMap: the same data, the same name, in any program. */
export function hashOf(object: KubeObject): string {
  const data = object.data as Record<string, string> | undefined;
  const sorted =
    data &&
    Object.fromEntries(
      Object.keys(data)
        .sort(byteOrder)
        .map((key) => [key, data[key]]),
    );
  // Its name is no part of it.
  const json = JSON.stringify({ data: sorted ?? '', kind: object.kind, name: '' });
  // As Go writes JSON.
  const text = json.replaceAll(
    /[<>&\u2028\u2029]/g,
    (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
  // No vowels, and nothing that may be taken for another character.
  const letters: Record<string, string> = { 0: 'g', 1: 'h', 3: 'k', a: 'm', e: 't' };
  const digest = createHash('sha256').update(text).digest('hex').slice(0, 10);
  return digest.replaceAll(/[013ae]/g, (one) => letters[one]!);
}

const byteOrder = (a: string, b: string): number => Buffer.compare(Buffer.from(a), Buffer.from(b));

/** Gives every reference to a ConfigMap of these names its new name. */
export function renameReferences(object: KubeObject, names: ReadonlyMap<string, string>): void {
  const rename = (holder: Json | undefined) => {
    if (isRecord(holder) && typeof holder.name === 'string')
      holder.name = names.get(holder.name) ?? holder.name;
  };
  const walk = (value: Json) => {
    if (Array.isArray(value)) for (const one of value) walk(one);
    else if (isRecord(value)) {
      for (const [field, one] of Object.entries(value)) {
        if (field === 'configMapRef' || field === 'configMapKeyRef' || field === 'configMap') rename(one);
        walk(one);
      }
    }
  };
  const spec = (object as unknown as JsonObject).spec;
  if (spec !== undefined) walk(spec);
}
