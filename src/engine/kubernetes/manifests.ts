import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FeedctlError } from '../model/errors.ts';
import { render } from './kustomize/render.ts';
import type { Manifest } from './object.ts';

/** What comes with the package. */
const SHIPPED = fileURLToPath(new URL('../../../manifests/overlays/', import.meta.url));

/**
 * The objects of an overlay that comes with feedctl, or of a directory or a file. `image`: what the containers run that the
 * kustomization gives an image called feedctl, whatever it makes of it. Throws FILE_NOT_FOUND or MANIFEST_INVALID.
 */
export async function readManifests(
  name: string,
  options: { namespace?: string | undefined; image?: string | undefined } = {},
): Promise<Manifest[]> {
  const { namespace, image } = options;
  const shipped = await readdir(SHIPPED);
  const path = shipped.includes(name) ? join(SHIPPED, name) : name;
  if (!(await stat(path).catch(() => undefined)))
    throw new FeedctlError(
      'FILE_NOT_FOUND',
      `${JSON.stringify(name)} is no overlay (${shipped.join(', ')}), and no directory or file`,
    );
  return render(path, { namespace, image });
}
