// Renders the overlays of manifests/ to manifests/rendered, with the installed Kustomize.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const MANIFESTS = new URL('../manifests/', import.meta.url);
const PROGRAMS = [
  { program: 'kustomize', version: ['version'], build: ['build'] },
  { program: 'kubectl', version: ['version', '--client'], build: ['kustomize'] },
];

export const OVERLAYS: readonly string[] = readdirSync(new URL('overlays/', MANIFESTS)).sort();

export const renderedFile = (overlay: string): URL => new URL(`rendered/${overlay}.yaml`, MANIFESTS);

/** Returns a function that renders a directory with Kustomize, alone or as part of kubectl; undefined without both. */
export function findKustomize(): ((directory: string) => string) | undefined {
  const found = PROGRAMS.find(({ program, version }) => spawnSync(program, version).status === 0);
  return (
    found && ((directory) => execFileSync(found.program, [...found.build, directory], { encoding: 'utf8' }))
  );
}

export const overlayDirectory = (overlay: string): string =>
  fileURLToPath(new URL(`overlays/${overlay}`, MANIFESTS));

if (import.meta.main) {
  const build = findKustomize();
  if (!build) throw new Error('neither kustomize nor kubectl is installed');
  mkdirSync(new URL('rendered/', MANIFESTS), { recursive: true });
  for (const overlay of OVERLAYS) {
    const head = `# Kustomize made this file of manifests/overlays/${overlay} (npm run manifests): change it there.\n`;
    writeFileSync(renderedFile(overlay), head + build(overlayDirectory(overlay)));
  }
}
