import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { expect, test } from 'vitest';
import { readManifests } from '../../../src/engine/kubernetes/manifests.ts';
import type { KubeObject } from '../../../src/engine/kubernetes/object.ts';
import { temporaryDirectory } from '../../support/cli.ts';
import { rejection } from '../../support/codes.ts';

const CONFIG = 'apiVersion: v1\nkind: ConfigMap\nmetadata: { name: a }\n';

async function written(text: string): Promise<string> {
  const file = join(await temporaryDirectory(), 'a.yaml');
  await writeFile(file, text);
  return file;
}

const faultOf = async (text: string) => {
  const error = await rejection(readManifests(await written(text)));
  expect(error.code).toBe('MANIFEST_INVALID');
  return error.message;
};

const withPods = (...images: string[]): string =>
  JSON.stringify({
    apiVersion: 'batch/v1',
    kind: 'CronJob',
    metadata: { name: 'a' },
    spec: {
      jobTemplate: { spec: { template: { spec: { containers: images.map((image) => ({ image })) } } } },
    },
  });

test('manifests that no two programs read alike, or that are none', async () => {
  const manifest = (rest: string) => `apiVersion: v1\nkind: Secret\nmetadata:\n  name: a\n${rest}`;
  expect(await faultOf(manifest('x: yes\n'))).toMatch(/a\.yaml:5: programs read yes differently/);
  expect(await faultOf(manifest('mode: 0644\n'))).toMatch(/a\.yaml:5: .*0644/);
  expect(await faultOf(manifest('kind: Secret\n'))).toMatch(/a\.yaml:5: .*unique/i);
  expect(await faultOf(manifest('  \tb: c: d\n'))).toMatch(/a\.yaml:\d/);
  expect(await faultOf('kind: Secret\n')).toMatch(/a\.yaml:1: apiVersion is missing/);
  expect(await faultOf(`${CONFIG}---\nkind: Secret\napiVersion: v1\n`)).toMatch(
    /a\.yaml:5: metadata\.name is missing/,
  );
  expect(await faultOf('apiVersion: v1\nmetadata: { name: a }\n')).toMatch(/a\.yaml:1: kind is missing/);
  expect(await faultOf('# nothing\n')).toMatch(/no object/);
  expect(await faultOf('just text\n')).toMatch(/a\.yaml:1/);
  expect(await faultOf(`- ${withPods()}\n`)).toMatch(/a\.yaml:1: this is not an object/);
  expect(await faultOf(`${CONFIG}---\n${CONFIG}`)).toMatch(
    /a\.yaml:5: ConfigMap\/a is already in .*a\.yaml:1/,
  );
});

test('a directory and a kustomization are refused with the command that renders them', async () => {
  const directory = await temporaryDirectory();
  const file = join(directory, 'kustomization.yaml');
  await writeFile(file, 'apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n');
  for (const path of [directory, file])
    expect(await rejection(readManifests(path))).toMatchObject({
      code: 'MANIFEST_INVALID',
      suggestions: [expect.stringMatching(/kustomize build .* \| feedctl cluster apply -/)],
    });
});

test('a name that is neither an overlay nor a file is refused with the names of the overlays', async () => {
  expect(await rejection(readManifests('staging'))).toMatchObject({
    code: 'FILE_NOT_FOUND',
    message: expect.stringContaining('dev, prod'),
  });
});

test('stdin is read as a file is, unless it is a terminal', async () => {
  const read = (text: string, isTTY = false) =>
    readManifests('-', { stdin: Object.assign(Readable.from([text]), { isTTY }) });
  expect(await read(`# two\n---\n${CONFIG}---\n---\n${withPods()}`)).toMatchObject([
    { object: { kind: 'ConfigMap' }, source: 'stdin:3' },
    { object: { kind: 'CronJob' }, source: 'stdin:8' },
  ]);
  expect(await rejection(read(''))).toMatchObject({
    code: 'MANIFEST_INVALID',
    message: expect.stringContaining('stdin'),
  });
  expect((await rejection(read(`${CONFIG}---\na: [\n`))).message).toMatch(/^stdin:[56]: /);
  expect(await rejection(read(CONFIG, true))).toMatchObject({
    code: 'USAGE',
    message: expect.stringContaining('terminal'),
  });
});

test('a namespace and an image that are asked for come instead of those in the overlay', async () => {
  const made = await readManifests('prod', {
    namespace: 'elsewhere',
    image: 'localhost:5000/feedctl:9@sha256:abc',
  });
  for (const { object } of made)
    expect(object.kind === 'Namespace' ? object.metadata.name : object.metadata.namespace).toBe('elsewhere');
  const images = made.flatMap(({ object }) => JSON.stringify(object).match(/"image":"[^"]*"/g) ?? []);
  expect(new Set(images)).toEqual(new Set(['"image":"localhost:5000/feedctl:9@sha256:abc"']));
  expect(images.length).toBe(3);
});

test('an image replaces those of feedctl in any registry, and no other', async () => {
  const images = ['feedctl', 'feedctl:old', 'registry:5000/team/feedctl@sha256:01', 'mirror/app:1'];
  const others = ['registry:5000/side', 'feedctl-tools:1', 'feedctl/side:1'];
  const file = await written(withPods(...images, ...others));
  const [made] = await readManifests(file, { image: 'mirror/app:2' });
  const after = JSON.stringify(made!.object).match(/(?<="image":")[^"]*/g);
  expect(after).toEqual([...images.map(() => 'mirror/app:2'), ...others]);
  const none = await written(withPods(...others));
  expect(await rejection(readManifests(none, { image: 'mirror/app:2' }))).toMatchObject({ code: 'USAGE' });
});

test('a namespace is given to what is in one, and to the service accounts that are bound there', async () => {
  const subjects = [
    { kind: 'ServiceAccount', name: 'robot', namespace: 'old' },
    { kind: 'ServiceAccount', name: 'stranger', namespace: 'elsewhere' },
    { kind: 'User', name: 'robot' },
  ];
  const object = (apiVersion: string, kind: string, name: string, more: object = {}) =>
    ({ apiVersion, kind, metadata: { name }, ...more }) as KubeObject;
  const objects = [
    object('v1', 'Namespace', 'old'),
    object('v1', 'ServiceAccount', 'robot'),
    object('rbac.authorization.k8s.io/v1', 'ClusterRole', 'robot'),
    object('rbac.authorization.k8s.io/v1', 'RoleBinding', 'robot', { subjects }),
  ];
  const file = await written(objects.map((one) => JSON.stringify(one)).join('\n---\n'));
  const made = (await readManifests(file, { namespace: 'feeds' })).map(({ object }) => object);
  expect(made.map(({ metadata }) => metadata)).toEqual([
    { name: 'feeds' },
    { name: 'robot', namespace: 'feeds' },
    { name: 'robot' },
    { name: 'robot', namespace: 'feeds' },
  ]);
  const twice = ['a', 'b'].map((inside) => CONFIG.replace('name: a', `name: a, namespace: ${inside}`));
  const moved = readManifests(await written(twice.join('---\n')), { namespace: 'feeds' });
  expect(await rejection(moved)).toMatchObject({ code: 'MANIFEST_INVALID' });
  expect(made[3]!.subjects).toEqual([{ ...subjects[0], namespace: 'feeds' }, subjects[1], subjects[2]]);
});
