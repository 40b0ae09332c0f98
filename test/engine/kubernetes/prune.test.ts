import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Kubernetes } from '../../../src/engine/kubernetes/client.ts';
import type { Manifest } from '../../../src/engine/kubernetes/object.ts';
import { findPruneCandidates, prune } from '../../../src/engine/kubernetes/prune.ts';
import { temporaryDirectory } from '../../support/cli.ts';
import { rejection } from '../../support/codes.ts';
import { kubernetesOf } from '../../support/kubernetes.ts';
import { type KubernetesFake, refusal, startKubernetesFake } from '../../support/kubernetesFake.ts';

const CORE = '/api/v1/namespaces/feeds';
const APPS = '/apis/apps/v1/namespaces/feeds';
const SETTINGS = `${CORE}/configmaps`;

let fake: KubernetesFake;
let kubernetes: Kubernetes;
beforeAll(async () => {
  fake = await startKubernetesFake();
  kubernetes = await kubernetesOf(await fake.kubeconfig(await temporaryDirectory()));
  const resources = (...rows: [name: string, kind: string][]) => ({
    status: 200,
    body: { resources: rows.map(([name, kind]) => ({ name, kind, namespaced: true })) },
  });
  fake.answer(
    '/api/v1',
    resources(['configmaps', 'ConfigMap'], ['services', 'Service'], ['secrets', 'Secret']),
  );
  fake.answer('/apis/apps/v1', resources(['deployments', 'Deployment'], ['replicasets', 'ReplicaSet']));
});
afterAll(async () => {
  await kubernetes.close();
  await fake.close();
});

const list = (...items: object[]) => ({ status: 200, body: { items } });
const ours = [{ manager: 'feedctl', operation: 'Apply' }];
const live = (name: string, more: object = {}) => ({
  metadata: { name, uid: `uid-of-${name}`, managedFields: ours, ...more },
});
const manifest = (kind: string, name: string, labels?: Record<string, string>): Manifest => ({
  object: { apiVersion: 'v1', kind, metadata: { name, ...(labels && { labels }) } },
  source: 'test',
});
const whole = [
  manifest('Deployment', 'feedctl-worker', { 'app.kubernetes.io/part-of': 'feedctl' }),
  manifest('ConfigMap', 'feedctl-new'),
];
const revision = (settings: string) => ({
  metadata: { name: `of-${settings}` },
  spec: { template: { spec: { containers: [{ envFrom: [{ configMapRef: { name: settings } }] }] } } },
});

/** The cluster has no leftovers unless a test passes some. */
function cluster(given: { settings?: object[]; deployments?: object[]; revisions?: object[] } = {}): void {
  fake.answer(SETTINGS, list(...(given.settings ?? [])));
  fake.answer(`${CORE}/services`, list());
  fake.answer(`${APPS}/deployments`, list(...(given.deployments ?? [])));
  fake.answer(`${APPS}/replicasets`, list(...(given.revisions ?? [])));
}

const found = async (manifests: Manifest[] = whole) =>
  (await findPruneCandidates(kubernetes, manifests, 'feeds')).map(({ kind, name }) => `${kind}/${name}`);

test('only what feedctl alone has applied is left over', async () => {
  cluster({
    settings: [
      live('feedctl-old'),
      live('feedctl-new'),
      live('edited', { managedFields: [...ours, { manager: 'kubectl-edit', operation: 'Update' }] }),
      live('by-hand', { managedFields: [{ manager: 'kubectl', operation: 'Apply' }] }),
      live('scaled-by-us', { managedFields: [{ manager: 'feedctl', operation: 'Update' }] }),
      live('shared', { managedFields: [...ours, { manager: 'argocd', operation: 'Apply' }] }),
      live('owned', { ownerReferences: [{ kind: 'Thing', name: 'x' }] }),
      live('going', { deletionTimestamp: '2026-01-01T00:00:00Z' }),
    ],
    deployments: [live('feedctl-worker'), live('feedctl-old')],
  });
  const before = fake.seen.length;
  expect(await found()).toEqual(['Deployment/feedctl-old', 'ConfigMap/feedctl-old', 'ConfigMap/edited']);
  const asked = fake.seen.slice(before).filter(({ path }) => path === SETTINGS);
  // Lists read metadata only, of objects with feedctl's label.
  expect(asked).toMatchObject([
    {
      query: { labelSelector: 'app.kubernetes.io/part-of=feedctl' },
      accept: expect.stringContaining('PartialObjectMetadataList'),
    },
  ]);
  expect(fake.seen.slice(before).filter(({ path }) => /secrets|persistentvolumeclaims/.test(path))).toEqual(
    [],
  );
});

test('manifests that are a part of feedctl leave nothing over', async () => {
  cluster({ settings: [live('feedctl-old')] });
  expect(await found([manifest('ConfigMap', 'mine')])).toEqual([]);
  expect(await found([manifest('Deployment', 'of-another-program', {})])).toEqual([]);
  expect(await found()).toEqual(['ConfigMap/feedctl-old']);
});

test('settings that a deployment can go back to are kept, all where that may not be asked', async () => {
  cluster({ settings: [live('feedctl-older'), live('feedctl-old')], revisions: [revision('feedctl-old')] });
  expect(await found()).toEqual(['ConfigMap/feedctl-older']);
  fake.answer(`${APPS}/replicasets`, refusal(403, 'Forbidden', 'no'));
  expect(await found()).toEqual([]);
});

test('a kind that may not be listed is left out, and a server in trouble is no reason to think of nothing', async () => {
  cluster({ settings: [live('feedctl-old')], deployments: [live('feedctl-old')] });
  fake.answer(SETTINGS, refusal(403, 'Forbidden', 'no'));
  expect(await found()).toEqual(['Deployment/feedctl-old']);
  fake.answer(SETTINGS, refusal(503, 'ServiceUnavailable', 'leader lost'));
  expect((await rejection(findPruneCandidates(kubernetes, whole, 'feeds'))).code).toBe('KUBE_UNREACHABLE');
});

test('what is deleted is what was looked at: another of its name is not', async () => {
  cluster({ settings: [live('feedctl-old'), live('feedctl-older')] });
  const leftovers = await findPruneCandidates(kubernetes, whole, 'feeds');
  fake.answer(`${SETTINGS}/feedctl-old`, refusal(404, 'NotFound', 'already deleted'));
  fake.answer(`${SETTINGS}/feedctl-older`, { status: 200 });
  await prune(kubernetes, leftovers, 'feeds');
  expect(fake.seen.at(-1)).toMatchObject({
    method: 'DELETE',
    path: `${SETTINGS}/feedctl-older`,
    body: { propagationPolicy: 'Background', preconditions: { uid: 'uid-of-feedctl-older' } },
  });
  fake.answer(`${SETTINGS}/feedctl-old`, refusal(409, 'Conflict', 'the UID in the precondition is another'));
  expect((await rejection(prune(kubernetes, leftovers, 'feeds'))).code).toBe('KUBE_CONFLICT');
});
