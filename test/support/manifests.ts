import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const MANIFESTS = fileURLToPath(new URL('../../manifests/', import.meta.url));

/** Makes `directory` an overlay of the base with all components, and returns it. */
export async function everyComponent(directory: string): Promise<string> {
  const components = await readdir(join(MANIFESTS, 'components'));
  const at = (path: string) => relative(directory, join(MANIFESTS, path));
  await mkdir(directory, { recursive: true });
  const kustomization = {
    kind: 'Kustomization',
    namespace: 'feedctl',
    resources: [at('base')],
    components: components.map((name) => at(`components/${name}`)),
  };
  await writeFile(join(directory, 'kustomization.yaml'), JSON.stringify(kustomization));
  return directory;
}
