import { execFileSync } from 'node:child_process';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { render } from '../../../../src/engine/kubernetes/kustomize/render.ts';
import type { KubeObject } from '../../../../src/engine/kubernetes/object.ts';
import { temporaryDirectory } from '../../../support/cli.ts';
import { rejection } from '../../../support/codes.ts';

const MANIFESTS = fileURLToPath(new URL('../../../../manifests/', import.meta.url));
const OVERLAYS = (await readdir(join(MANIFESTS, 'overlays'))).map((name) =>
  join(MANIFESTS, 'overlays', name),
);

/** The real Kustomize, alone or as part of kubectl. */
const BUILD = [
  ['kustomize', 'build'],
  ['kubectl', 'kustomize'],
].find(([program]) => {
  try {
    execFileSync(program!, ['version', '--client'], { stdio: 'ignore' });
    return true;
  } catch {
    try {
      execFileSync(program!, ['version'], { stdio: 'ignore' });
      return true;
    } catch {
      return false;
    }
  }
});
if (!BUILD) process.stderr.write('\n*** TESTS SKIPPED, neither kustomize nor kubectl is installed ***\n\n');

const byName = (objects: readonly KubeObject[]) =>
  Object.fromEntries(
    objects.map((one) => [
      `${one.apiVersion} ${one.kind} ${one.metadata.namespace ?? ''}/${one.metadata.name}`,
      one,
    ]),
  );

const ours = async (directory: string) => byName((await render(directory)).map(({ object }) => object));

function theirs(directory: string) {
  const [program, ...args] = BUILD!;
  const text = execFileSync(program!, [...args, directory], { encoding: 'utf8' });
  return byName([...parseAllDocuments(text)].map((document) => document.toJS() as KubeObject));
}

/** Files of a kustomization, by path. */
async function written(files: Record<string, string>): Promise<string> {
  const directory = await temporaryDirectory();
  for (const [path, text] of Object.entries(files)) {
    await mkdir(dirname(join(directory, path)), { recursive: true });
    await writeFile(join(directory, path), text);
  }
  return directory;
}

const DEPLOYMENT = `apiVersion: apps/v1
kind: Deployment
metadata:
  name: app
spec:
  selector:
    matchLabels: { app: app }
  template:
    metadata:
      labels: { app: app }
    spec:
      containers:
        - name: app
          image: feedctl:old
          env:
            - { name: KEPT, value: a }
            - { name: CHANGED, value: a }
            - { name: GONE, value: a }
          ports:
            - { name: http, containerPort: 8080 }
          envFrom:
            - configMapRef: { name: settings }
        - name: side
          image: registry:5000/side@sha256:0123
      volumes:
        - name: settings
          configMap: { name: settings }
`;

/** Every way of changing something that is understood, at once. */
const EVERYTHING = {
  'base/kustomization.yaml': `
resources: [app.yaml, more.yaml]
configMapGenerator:
  - name: settings
    literals: [A=1, 'B=<&>', "C='quoted'"]
    files: [note.txt, key=note.txt]
  - name: plain
    literals: [X=1]
    options: { disableNameSuffixHash: true, labels: { dashboard: '1' } }
`,
  'base/note.txt': 'two\nlines\n',
  'base/app.yaml': DEPLOYMENT,
  'base/more.yaml': `apiVersion: v1
kind: Service
metadata: { name: app }
spec:
  ports:
    - { name: http, port: 80 }
    - { name: metrics, port: 9090 }
---
apiVersion: v1
kind: ServiceAccount
metadata: { name: robot }
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: { name: robot }
roleRef: { apiGroup: rbac.authorization.k8s.io, kind: Role, name: robot }
subjects:
  - { kind: ServiceAccount, name: robot }
  - { kind: ServiceAccount, name: stranger, namespace: elsewhere }
---
apiVersion: v1
kind: Namespace
metadata: { name: old }
---
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: { name: app }
spec: { triggers: [{ type: cpu, name: a }, { type: cron, name: b }] }
---
apiVersion: batch/v1
kind: Job
metadata: { name: doomed }
spec: { template: { spec: { containers: [] } } }
`,
  'component/kustomization.yaml': `
apiVersion: kustomize.config.k8s.io/v1alpha1
kind: Component
resources: [rule.yaml]
patches:
  - patch: |-
      - { op: add, path: /metadata/annotations, value: { touched: 'yes' } }
    target: { kind: Deployment }
`,
  'component/rule.yaml': `apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata: { name: rules }
spec: { groups: [] }
`,
  'kustomization.yaml': `
namespace: feeds
resources: [base]
components: [component]
labels:
  - pairs: { team: feeds }
    includeTemplates: true
images:
  - { name: feedctl, newName: registry/feedctl, newTag: '2' }
  - { name: 'registry:5000/side', digest: 'sha256:4567' }
replicas:
  - { name: app, count: 4 }
configMapGenerator:
  - name: settings
    behavior: merge
    literals: [B=2, D=4]
patches:
  - path: app.yaml
  - path: service.yaml
  - path: scaled.yaml
  - patch: |-
      apiVersion: batch/v1
      kind: Job
      metadata: { name: doomed }
      $patch: delete
  - target: { group: apps, kind: Deploy.*, name: app }
    patch: |-
      - { op: test, path: /metadata/name, value: app }
      - { op: replace, path: /spec/template/spec/containers/0/ports/0/containerPort, value: 8081 }
      - { op: add, path: /spec/template/spec/containers/0/args, value: [x] }
      - { op: add, path: /spec/template/spec/containers/0/args/-, value: z }
      - { op: copy, from: /spec/template/spec/containers/0/args/0, path: /spec/template/spec/containers/0/args/0 }
`,
  'app.yaml': `apiVersion: apps/v1
kind: Deployment
metadata: { name: app, annotations: { new: 'true' } }
spec:
  strategy: { type: Recreate }
  template:
    spec:
      containers:
        - { name: first, image: feedctl, ports: [{ containerPort: 1 }] }
        - name: app
          env:
            - { name: NEW, value: b }
            - { name: CHANGED, value: b }
            - { name: GONE, $patch: delete }
      volumes:
        - { name: tmp, emptyDir: {} }
`,
  'service.yaml': `apiVersion: v1
kind: Service
metadata: { name: app }
spec:
  type: ClusterIP
  ports:
    - { port: 9090, targetPort: 1 }
`,
  'scaled.yaml': `apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: { name: app }
spec: { triggers: [{ type: cron, name: c }], min: 1 }
`,
};

describe.skipIf(!BUILD)('against Kustomize', () => {
  test.each(OVERLAYS)('%s is what kustomize makes of it', async (directory) => {
    const made = await ours(directory);
    expect(Object.keys(made).length).toBeGreaterThan(10);
    expect(made).toEqual(theirs(directory));
  });

  test('a kustomization of everything that is understood is', async () => {
    const directory = await written(EVERYTHING);
    expect(await ours(directory)).toEqual(theirs(directory));
  });
});

const faultOf = async (files: Record<string, string>, path = '') => {
  const error = await rejection(render(join(await written(files), path)));
  expect(error.code).toBe('MANIFEST_INVALID');
  return error.message;
};
const kustomization = (text: string) => ({ 'kustomization.yaml': text, 'app.yaml': DEPLOYMENT });

describe('what is not understood is refused, with its place', () => {
  test.each([
    ['a field', 'resources: [app.yaml]\nnamePrefix: x-\n', /kustomization\.yaml:1: .*namePrefix/],
    ['a selector', 'labels: [{ pairs: { a: b }, includeSelectors: true }]\n', /labels\.0\.includeSelectors/],
    ['a URL', 'resources: ["https://example.com/base?ref=1"]\n', /nothing of the network/],
    ['a file that is not there', 'resources: [nowhere.yaml]\n', /nowhere\.yaml: there is no such file/],
    [
      'a patch that matches nothing',
      'resources: [app.yaml]\npatches: [{ patch: "[{op: remove, path: /spec}]", target: { name: ap } }]\n',
      /matches nothing: \{"name":"ap"\}/,
    ],
    [
      'a path that is not there',
      'resources: [app.yaml]\npatches: [{ patch: "[{op: remove, path: /spec/x}]", target: { name: app } }]\n',
      /Deployment\/app: \/spec\/x is not there/,
    ],
    [
      'an operation',
      'resources: [app.yaml]\npatches: [{ patch: "[{op: increment, path: /spec/x}]", target: { name: app } }]\n',
      /0\.op/,
    ],
    [
      'a directive',
      'resources: [app.yaml]\npatches: [{ patch: "{spec: {$retainKeys: [a]}}", target: { name: app } }]\n',
      /\$retainKeys is not understood/,
    ],
    ['replicas of nothing', 'resources: [app.yaml]\nreplicas: [{ name: ap, count: 1 }]\n', /of the name ap/],
    [
      'a settings file that is not there',
      'configMapGenerator: [{ name: a, files: [b] }]\n',
      /cannot be read/,
    ],
    ['settings without =', 'configMapGenerator: [{ name: a, literals: [b] }]\n', /"b" is no literal/],
    [
      'nothing to merge with',
      'configMapGenerator: [{ name: a, behavior: merge }]\n',
      /no ConfigMap a to merge/,
    ],
    ['the same twice', 'resources: [app.yaml, app.yaml]\n', /Deployment\/app is in .*app\.yaml:1 already/],
    ['itself', 'resources: [../]\n', /there is no kustomization\.yaml|part of itself/],
  ])('%s', async (_, text, message) => {
    expect(await faultOf(kustomization(text))).toMatch(message);
  });

  test('manifests that no two programs read alike, or that are none', async () => {
    const manifest = (rest: string) => ({
      'a.yaml': `apiVersion: v1\nkind: Secret\nmetadata:\n  name: a\n${rest}`,
    });
    expect(await faultOf(manifest('x: yes\n'), 'a.yaml')).toMatch(/a\.yaml:5: yes means different things/);
    expect(await faultOf(manifest('mode: 0644\n'), 'a.yaml')).toMatch(/a\.yaml:5: 0644/);
    expect(await faultOf(manifest('kind: Secret\n'), 'a.yaml')).toMatch(/a\.yaml:5: .*unique/i);
    expect(await faultOf(manifest('  \tb: c: d\n'), 'a.yaml')).toMatch(/a\.yaml:\d/);
    expect(await faultOf({ 'a.yaml': 'kind: Secret\n' }, 'a.yaml')).toMatch(
      /a\.yaml:1: apiVersion is missing/,
    );
    expect(await faultOf({ 'a.yaml': '# nothing\n' }, 'a.yaml')).toMatch(/no object/);
    expect(await faultOf({ 'a.yaml': 'just text\n' }, 'a.yaml')).toMatch(/a\.yaml:1/);
    expect(await faultOf({ 'kustomization.yaml': 'kind: Component\n' })).toMatch(/is a Component/);
  });
});

test('a namespace and an image that are asked for come instead of those in the overlay', async () => {
  const directory = join(MANIFESTS, 'overlays', 'prod');
  const made = await render(directory, {
    namespace: 'elsewhere',
    image: 'localhost:5000/feedctl:9@sha256:abc',
  });
  for (const { object } of made)
    expect(object.kind === 'Namespace' ? object.metadata.name : object.metadata.namespace).toBe('elsewhere');
  const images = made.flatMap(({ object }) => JSON.stringify(object).match(/"image":"[^"]*"/g) ?? []);
  expect(new Set(images)).toEqual(new Set(['"image":"localhost:5000/feedctl:9@sha256:abc"']));
  expect(images.length).toBe(3);
});
