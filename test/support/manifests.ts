import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse, parseAllDocuments, stringify } from 'yaml';
import type { KubeObject } from '../../src/engine/kubernetes/object.ts';

const MANIFESTS = fileURLToPath(new URL('../../manifests/', import.meta.url));

export const parseObjects = (text: string): KubeObject[] =>
  [...parseAllDocuments(text)].map((document) => document.toJS() as KubeObject);

/** Writes the objects of the overlay prod and of all components to a file, and returns its path. */
export async function everyComponent(directory: string): Promise<string> {
  const read = (...path: string[]) => readFile(join(MANIFESTS, ...path), 'utf8');
  const objects = parseObjects(await read('rendered', 'prod.yaml'));
  const nameOf = ({ kind, metadata }: KubeObject) => `${kind}/${metadata.name}`;
  const names = new Set(objects.map(nameOf));
  for (const component of await readdir(join(MANIFESTS, 'components'))) {
    const { resources } = parse(await read('components', component, 'kustomization.yaml')) as {
      resources: string[];
    };
    for (const resource of resources)
      for (const object of parseObjects(await read('components', component, resource)))
        if (!names.has(nameOf(object))) objects.push(object);
  }
  const path = join(directory, 'every-component.yaml');
  await writeFile(path, objects.map((object) => stringify(object)).join('---\n'));
  return path;
}
