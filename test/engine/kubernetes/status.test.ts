import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Kubernetes } from '../../../src/engine/kubernetes/client.ts';
import { planScale, scale } from '../../../src/engine/kubernetes/scale.ts';
import { kubeStatus } from '../../../src/engine/kubernetes/status.ts';
import { temporaryDirectory } from '../../support/cli.ts';
import { kubernetesOf } from '../../support/kubernetes.ts';
import { type KubernetesFake, startKubernetesFake } from '../../support/kubernetesFake.ts';

const CORE = '/api/v1/namespaces/feeds';
const DEPLOYMENTS = '/apis/apps/v1/namespaces/feeds/deployments';
const JOBS = '/apis/batch/v1/namespaces/feeds/jobs';
const HPAS = '/apis/autoscaling/v2/namespaces/feeds/horizontalpodautoscalers';
const SCALED = '/apis/keda.sh/v1alpha1/namespaces/feeds/scaledobjects';

let fake: KubernetesFake;
let kubernetes: Kubernetes;
beforeAll(async () => {
  fake = await startKubernetesFake();
  kubernetes = await kubernetesOf(await fake.kubeconfig(await temporaryDirectory()));
});
afterAll(async () => {
  await kubernetes.close();
  await fake.close();
});

const list = (...items: object[]) => ({ status: 200, body: { items } });
const job = (type?: string) => ({
  metadata: { name: 'feedctl-migrate' },
  status: {
    failed: 1,
    conditions: type ? [{ type, status: 'True', message: 'has reached its limit' }] : [],
  },
});
const pod = (name: string, owner: string | undefined, status: object) => {
  const [kind, of] = owner?.split('/') ?? [];
  const ownerReferences = owner ? [{ kind, name: of, controller: true }] : undefined;
  return { metadata: { name, ownerReferences }, status };
};
const failed = { phase: 'Failed', reason: 'Evicted', message: 'The node was low on resource: memory.' };

/** The cluster is healthy unless a test passes something else. */
function cluster(
  given: { jobs?: object[]; pods?: object[]; scaled?: object[]; events?: object[] } = {},
): void {
  const counts = { replicas: 1, updatedReplicas: 1, readyReplicas: 1, availableReplicas: 1 };
  const deployment = {
    metadata: { name: 'feedctl-worker', generation: 1 },
    spec: { replicas: 1, selector: {} },
    status: { observedGeneration: 1, ...counts },
  };
  fake.answer(DEPLOYMENTS, list(deployment));
  fake.answer(JOBS, list(...(given.jobs ?? [])));
  fake.answer(`${CORE}/pods`, list(...(given.pods ?? [])));
  fake.answer(HPAS, list());
  fake.answer(SCALED, list(...(given.scaled ?? [])));
  fake.answer(`${CORE}/events`, list(...(given.events ?? [])));
}

test.each([
  ['nothing is wrong', true, [], []],
  ['a try of a migration failed, and another ended well', true, [job('Complete')], ['Job/feedctl-migrate']],
  ['a try of a migration failed, and the next is under way', false, [job()], ['Job/feedctl-migrate']],
  ['a migration has failed for good', false, [job('Failed')], ['Job/feedctl-migrate']],
  ['a migration has failed, and its pods were tidied up', false, [job('Failed')], []],
  ['a pod was evicted, and its ReplicaSet made another', true, [], ['ReplicaSet/feedctl-worker-5f6d']],
  ['a pod of nobody has failed: none comes in its place', false, [], [undefined]],
] as const)('%s: healthy is %s', async (_what, healthy, jobs, owners) => {
  cluster({ jobs: [...jobs], pods: owners.map((owner, i) => pod(`pod-${i}`, owner, failed)) });
  const status = await kubeStatus(kubernetes, 'feeds');
  expect(status.healthy).toBe(healthy);
  // The failure is still reported.
  expect(status.pods.map(({ reason }) => reason)).toEqual(owners.map(() => 'Evicted'));
});

test('a pod of a ReplicaSet that cannot start is no matter of the past', async () => {
  const waiting = { reason: 'ImagePullBackOff', message: 'not found' };
  const containerStatuses = [{ ready: false, restartCount: 0, state: { waiting } }];
  cluster({ pods: [pod('pod', 'ReplicaSet/feedctl-worker-5f6d', { phase: 'Pending', containerStatuses })] });
  expect((await kubeStatus(kubernetes, 'feeds')).healthy).toBe(false);
});

test('warnings of the HPA that KEDA made, and of a Job without pods, are shown; those of others are not', async () => {
  const event = (kind: string, name: string) => ({
    metadata: { name: `${name}.1` },
    involvedObject: { kind, name },
    reason: 'Failed',
    lastTimestamp: new Date().toISOString(),
  });
  const ours = [
    event('HorizontalPodAutoscaler', 'keda-hpa-feedctl-worker'),
    event('Job', 'feedctl-migrate'),
    event('ReplicaSet', 'feedctl-worker-5f6d'),
    event('ScaledObject', 'workers'),
  ];
  const scaled = {
    metadata: { name: 'workers' },
    spec: { scaleTargetRef: { name: 'feedctl-worker' } },
    status: { hpaName: 'keda-hpa-feedctl-worker' },
  };
  cluster({ jobs: [job('Complete')], scaled: [scaled], events: [...ours, event('Pod', 'postgres-0')] });
  const { events } = await kubeStatus(kubernetes, 'feeds');
  expect(events.map(({ object }) => object).sort()).toEqual([
    'HorizontalPodAutoscaler/keda-hpa-feedctl-worker',
    'Job/feedctl-migrate',
    'ReplicaSet/feedctl-worker-5f6d',
    'ScaledObject/workers',
  ]);
});

test('KEDA scales again whichever way it was told to pause', async () => {
  const prefix = 'autoscaling.keda.sh/paused';
  const scaled = {
    metadata: { name: 'workers', annotations: { [prefix]: 'true' } },
    spec: { scaleTargetRef: { name: 'feedctl-worker' } },
  };
  cluster({ scaled: [scaled] });
  expect((await kubeStatus(kubernetes, 'feeds')).autoscalers).toMatchObject([
    { paused: true, pausedAt: null },
  ]);
  fake.answer(`${SCALED}/workers`, { status: 200 });
  await scale(kubernetes, await planScale(kubernetes, 'feeds', { to: 'auto' }), { dryRun: false });
  expect(fake.seen.at(-1)).toMatchObject({
    path: `${SCALED}/workers`,
    type: 'application/merge-patch+json',
    body: {
      metadata: {
        annotations: {
          [prefix]: null,
          [`${prefix}-replicas`]: null,
          [`${prefix}-scale-in`]: null,
          [`${prefix}-scale-out`]: null,
        },
      },
    },
  });
});
