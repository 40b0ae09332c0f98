import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { findKustomize, OVERLAYS, overlayDirectory, renderedFile } from '../../scripts/manifests.ts';
import type { KubeObject } from '../../src/engine/kubernetes/object.ts';
import { parseObjects } from '../support/manifests.ts';

const build = findKustomize();
if (!build) process.stderr.write('\n*** TESTS SKIPPED, neither kustomize nor kubectl is installed ***\n\n');

const rendered = (overlay: string): KubeObject[] => parseObjects(readFileSync(renderedFile(overlay), 'utf8'));

test('each overlay has one rendered file', () => {
  const files = readdirSync(new URL('../../manifests/rendered/', import.meta.url));
  expect(files.sort()).toEqual(OVERLAYS.map((overlay) => `${overlay}.yaml`));
});

describe.skipIf(!build)('against Kustomize', () => {
  test.each(OVERLAYS)('%s is what kustomize makes of it', (overlay) => {
    const objects = rendered(overlay);
    expect(objects.length).toBeGreaterThan(10);
    // `npm run manifests` renders the files again.
    expect(objects).toEqual(parseObjects(build!(overlayDirectory(overlay))));
  });
});

test.each(OVERLAYS)('the pods of %s read the settings whose hash is in their name', (overlay) => {
  const objects = rendered(overlay);
  const settings = objects.flatMap(({ kind, metadata }) =>
    kind === 'ConfigMap' && /^feedctl-[a-z0-9]{10}$/.test(metadata.name) ? [metadata.name] : [],
  );
  expect(settings).toHaveLength(1);
  const read = objects.flatMap(({ spec }) => [
    ...(JSON.stringify(spec) ?? '').matchAll(/"configMapRef":\{"name":"([^"]*)"/g),
  ]);
  expect(read.map(([, name]) => name)).toEqual(Array(3).fill(settings[0]));
});
