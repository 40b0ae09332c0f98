import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ApplyOptions, applyPlan, readPlan } from '../../../src/engine/kubernetes/apply.ts';
import type { Kubernetes } from '../../../src/engine/kubernetes/client.ts';
import type { KubeObject } from '../../../src/engine/kubernetes/object.ts';
import { temporaryDirectory } from '../../support/cli.ts';
import { rejection } from '../../support/codes.ts';
import { kubernetesOf } from '../../support/kubernetes.ts';
import { type KubernetesFake, refusal, startKubernetesFake } from '../../support/kubernetesFake.ts';

const OPTIONS: ApplyOptions = { forceConflicts: false, wait: true, prune: false, timeoutMs: 60_000 };
const missing = refusal(404, 'NotFound', 'not there');
const echo = { status: 200 };
const resources = (name: string, kind: string, namespaced = true) => ({
  status: 200,
  body: { resources: [{ name, kind, namespaced }] },
});

let fake: KubernetesFake;
let kubernetes: Kubernetes;
let directory: string;
beforeAll(async () => {
  directory = await temporaryDirectory();
  fake = await startKubernetesFake();
  kubernetes = await kubernetesOf(await fake.kubeconfig(directory));
  fake.answer('/api/v1/namespaces/feeds', { status: 200, body: { kind: 'Namespace' } });
});
afterAll(async () => {
  await kubernetes.close();
  await fake.close();
});

async function planned(...objects: KubeObject[]) {
  const file = join(directory, 'manifests.yaml');
  await writeFile(file, objects.map((one) => JSON.stringify(one)).join('\n---\n'));
  return readPlan(kubernetes, file, { namespace: 'feeds', image: undefined, forceConflicts: false });
}

test('what is of a kind that comes along is checked when the kind is served, and then applied', async () => {
  const definitions = '/apis/apiextensions.k8s.io/v1';
  const thing = '/apis/example.org/v1/namespaces/feeds/things/one';
  const spec = {
    group: 'example.org',
    scope: 'Namespaced',
    names: { kind: 'Thing' },
    versions: [{ name: 'v1', served: true }],
  };
  fake.answer(definitions, resources('customresourcedefinitions', 'CustomResourceDefinition', false));
  fake.answer(`${definitions}/customresourcedefinitions/things.example.org`, missing, echo);
  // The kind is unknown during the plan, and for a moment after the definition is applied.
  fake.answer('/apis/example.org/v1', missing, missing, resources('things', 'Thing'));
  fake.answer(thing, missing, echo);
  const { manifests, plan } = await planned(
    { apiVersion: 'example.org/v1', kind: 'Thing', metadata: { name: 'one' } },
    {
      apiVersion: 'apiextensions.k8s.io/v1',
      kind: 'CustomResourceDefinition',
      metadata: { name: 'things.example.org' },
      spec,
    },
  );
  expect(plan.objects).toMatchObject([
    { kind: 'CustomResourceDefinition', action: 'added', namespace: null },
    { kind: 'Thing', action: 'unchecked', namespace: 'feeds' },
  ]);
  const { objects } = await applyPlan(kubernetes, manifests, plan, OPTIONS);
  expect(objects).toMatchObject([{ action: 'added' }, { kind: 'Thing', action: 'added' }]);
  const patches = fake.seen.filter(({ method, path }) => method === 'PATCH' && path === thing);
  expect(patches.map(({ query }) => query.dryRun)).toEqual(['All', undefined]);
});

test('a kind that nobody defines is refused', async () => {
  const { plan } = await planned({
    apiVersion: 'example.com/v1',
    kind: 'Nothing',
    metadata: { name: 'one' },
  });
  expect(plan.objects).toMatchObject([{ action: 'refused', problem: { code: 'KUBE_KIND_UNKNOWN' } }]);
});

test('nothing is pruned before everything else has rolled out', async () => {
  const apps = '/apis/apps/v1/namespaces/feeds';
  const labels = { 'app.kubernetes.io/part-of': 'feedctl' };
  const deployment: KubeObject = {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'feedctl-worker', labels, generation: 1 },
    spec: { replicas: 1, selector: {} },
  };
  const live = (status: object) => ({ status: 200, body: { ...deployment, status } });
  const old = { name: 'old', uid: 'u', managedFields: [{ manager: 'feedctl', operation: 'Apply' }] };
  fake.answer('/apis/apps/v1', resources('deployments', 'Deployment'));
  fake.answer(`${apps}/deployments`, { status: 200, body: { items: [{ metadata: old }] } });
  fake.answer(`${apps}/deployments/old`, echo);
  const conditions = [{ type: 'Progressing', reason: 'ProgressDeadlineExceeded', message: 'too slow' }];
  fake.answer(`${apps}/deployments/feedctl-worker`, live({ observedGeneration: 1, conditions }));
  const { manifests, plan } = await planned(deployment);
  expect(plan.leftovers).toMatchObject([{ kind: 'Deployment', name: 'old' }]);
  const deleted = () => fake.seen.filter(({ method }) => method === 'DELETE').map(({ path }) => path);
  const options = { ...OPTIONS, prune: true };
  expect((await rejection(applyPlan(kubernetes, manifests, plan, options))).code).toBe('KUBE_ROLLOUT_FAILED');
  expect(deleted()).toEqual([]);
  const counts = { replicas: 1, updatedReplicas: 1, readyReplicas: 1, availableReplicas: 1 };
  fake.answer(`${apps}/deployments/feedctl-worker`, live({ observedGeneration: 1, ...counts }));
  expect((await applyPlan(kubernetes, manifests, plan, OPTIONS)).pruned).toEqual([]);
  expect(deleted()).toEqual([]);
  expect((await applyPlan(kubernetes, manifests, plan, options)).pruned).toEqual(plan.leftovers);
  expect(deleted()).toEqual([`${apps}/deployments/old`]);
});
