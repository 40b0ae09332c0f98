import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openKubernetes } from '../../../src/engine/kube/client.ts';
import type { KubeObject } from '../../../src/engine/kube/object.ts';
import { planScale, restart, scale } from '../../../src/engine/kube/workers.ts';
import { temporaryDirectory } from '../../support/cli.ts';
import { rejection } from '../../support/codes.ts';
import { type KubernetesFake, refusal, startKubernetesFake } from '../../support/kubernetesFake.ts';

const PODS = '/api/v1/namespaces/feeds/pods';
const DEPLOYMENTS = '/apis/apps/v1/namespaces/feeds/deployments';
const worker = (status: object = {}): KubeObject => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name: 'feedctl-worker', generation: 2 },
  spec: { replicas: 3, selector: {} },
  status,
});

describe('against a server that is in trouble', () => {
  let fake: KubernetesFake;
  const before = process.env.KUBECONFIG;
  beforeAll(async () => {
    fake = await startKubernetesFake();
    process.env.KUBECONFIG = await fake.kubeconfig(await temporaryDirectory());
  });
  afterAll(async () => {
    if (before === undefined) delete process.env.KUBECONFIG;
    else process.env.KUBECONFIG = before;
    await fake.close();
  });
  const open = () => openKubernetes();

  test('each kind of refusal has its code, and says what the server said', async () => {
    const kubernetes = await open();
    const cases = [
      [refusal(401, 'Unauthorized', 'Unauthorized'), 'KUBE_UNAUTHORIZED', 'Unauthorized'],
      [refusal(403, 'Forbidden', 'pods is forbidden'), 'KUBE_FORBIDDEN', 'pods is forbidden'],
      [
        refusal(403, 'Forbidden', 'it is being terminated', { causes: [{ reason: 'NamespaceTerminating' }] }),
        'KUBE_NAMESPACE_MISSING',
        'being terminated',
      ],
      [
        refusal(404, 'NotFound', 'no', { kind: 'namespaces', name: 'feeds' }),
        'KUBE_NAMESPACE_MISSING',
        'feeds',
      ],
      [refusal(404, 'NotFound', 'pods "x" not found'), 'KUBE_NOT_FOUND', 'pods "x" not found'],
      [refusal(409, 'AlreadyExists', 'it is there'), 'KUBE_CONFLICT', 'it is there'],
      [refusal(422, 'Invalid', 'spec.x: Invalid value'), 'KUBE_REFUSED', 'spec.x: Invalid value'],
      [refusal(500, 'InternalError', 'etcd is away'), 'KUBE_UNREACHABLE', 'etcd is away'],
      [{ status: 502, body: '<html>Bad gateway</html>' }, 'KUBE_UNREACHABLE', '502'],
      [{ status: 200, body: '<html>Log in</html>' }, 'KUBE_UNREACHABLE', 'no Kubernetes API'],
    ] as const;
    for (const [answer, code, message] of cases) {
      fake.answer(PODS, answer);
      const error = await rejection(kubernetes.list(PODS));
      expect(error, message).toMatchObject({ code, message: expect.stringContaining(message) });
    }
    await kubernetes.close();
  });

  test('a server that sheds load is asked again when it says so', async () => {
    const busy = { ...refusal(429, 'TooManyRequests', 'busy'), headers: { 'retry-after': '0' } };
    fake.answer(PODS, busy, busy, { status: 200, body: { items: [] } });
    const kubernetes = await open();
    expect(await kubernetes.list(PODS)).toEqual([]);
    fake.answer(PODS, busy);
    expect(await rejection(kubernetes.list(PODS))).toMatchObject({ code: 'KUBE_UNREACHABLE' });
    await kubernetes.close();
  });

  test('a long list comes in pages', async () => {
    const page = (name: string, next?: string) => ({
      status: 200,
      body: { metadata: { continue: next }, items: [{ metadata: { name } }] },
    });
    fake.answer(PODS, page('a', 'further'), page('b'));
    const kubernetes = await open();
    expect((await kubernetes.list<KubeObject>(PODS)).map(({ metadata }) => metadata.name)).toEqual([
      'a',
      'b',
    ]);
    expect(fake.seen.at(-1)).toMatchObject({
      query: { continue: 'further' },
      authorization: 'Bearer secret-token',
    });
    await kubernetes.close();
  });

  test('applies, merges and dry runs are told apart by what is sent', async () => {
    const kubernetes = await open();
    const path = `${DEPLOYMENTS}/feedctl-worker`;
    fake.answer(path, { status: 200 });
    await kubernetes.apply(path, worker(), { force: false, dryRun: true });
    expect(fake.seen.at(-1)).toMatchObject({
      type: 'application/apply-patch+yaml',
      query: { fieldManager: 'feedctl', fieldValidation: 'Strict', force: 'false', dryRun: 'All' },
    });
    await kubernetes.apply(path, worker(), { force: true, dryRun: false });
    expect(fake.seen.at(-1)!.query).toEqual({
      fieldManager: 'feedctl',
      fieldValidation: 'Strict',
      force: 'true',
    });
    await kubernetes.patch(path, 'merge', { spec: {} }, { dryRun: true });
    expect(fake.seen.at(-1)).toMatchObject({
      type: 'application/merge-patch+json',
      query: { fieldManager: 'feedctl-operator', dryRun: 'All' },
    });
    await kubernetes.close();
  });

  test('what a Secret holds is not fetched to see whether it is there', async () => {
    const kubernetes = await open();
    const path = '/api/v1/namespaces/feeds/secrets/feedctl';
    expect(await kubernetes.exists(path)).toBe(false);
    fake.answer(path, { status: 200, body: { kind: 'PartialObjectMetadata' } });
    expect(await kubernetes.exists(path)).toBe(true);
    await kubernetes.close();
  });

  test('a restart goes on over a moment without an answer, and ends when the rollout is done', async () => {
    const kubernetes = await open();
    const path = `${DEPLOYMENTS}/feedctl-worker`;
    const done = {
      observedGeneration: 2,
      replicas: 3,
      updatedReplicas: 3,
      availableReplicas: 3,
      readyReplicas: 3,
    };
    fake.answer(
      path,
      { status: 200, body: worker() },
      { status: 200, body: worker({ ...done, observedGeneration: 1 }) },
      refusal(503, 'ServiceUnavailable', 'leader lost'),
      { status: 200, body: worker({ ...done, replicas: 4 }) },
      { status: 200, body: worker(done) },
    );
    const seen: number[] = [];
    const plan = { deployment: 'feedctl-worker', namespace: 'feeds', path, rollout: undefined as never };
    const rollout = await restart(kubernetes, plan, {
      wait: true,
      timeoutMs: 60_000,
      onProgress: ({ updated }) => seen.push(updated),
    });
    expect(rollout).toMatchObject({ done: true, desired: 3, updated: 3 });
    expect(seen).toEqual([3, 3, 3]);
    expect(
      fake.seen.find(
        ({ method, body }) => method === 'PATCH' && JSON.stringify(body).includes('restartedAt'),
      ),
    ).toMatchObject({
      type: 'application/strategic-merge-patch+json',
      body: {
        spec: {
          template: {
            metadata: { annotations: { 'kubectl.kubernetes.io/restartedAt': expect.any(String) } },
          },
        },
      },
    });
    await kubernetes.close();
  });

  test('a rollout that cannot go on ends with its reason', async () => {
    const kubernetes = await open();
    const path = `${DEPLOYMENTS}/feedctl-worker`;
    const conditions = [
      {
        type: 'Progressing',
        status: 'False',
        reason: 'ProgressDeadlineExceeded',
        message: 'has timed out progressing',
      },
    ];
    fake.answer(path, { status: 200, body: worker({ observedGeneration: 2, conditions }) });
    const plan = { deployment: 'feedctl-worker', namespace: 'feeds', path, rollout: undefined as never };
    expect(await rejection(restart(kubernetes, plan, { wait: true, timeoutMs: 60_000 }))).toMatchObject({
      code: 'KUBE_ROLLOUT_FAILED',
      message: expect.stringContaining('has timed out progressing'),
    });
    await kubernetes.close();
  });

  test('an autoscaler of somebody else is not fought', async () => {
    const kubernetes = await open();
    fake.answer(DEPLOYMENTS, { status: 200, body: { items: [worker()] } });
    fake.answer(
      '/apis/keda.sh/v1alpha1/namespaces/feeds/scaledobjects',
      refusal(404, 'NotFound', 'no such kind'),
    );
    const hpas = '/apis/autoscaling/v2/namespaces/feeds/horizontalpodautoscalers';
    const hpa = {
      metadata: { name: 'mine' },
      spec: { scaleTargetRef: { name: 'feedctl-worker' }, minReplicas: 2, maxReplicas: 9 },
    };
    fake.answer(hpas, { status: 200, body: { items: [hpa] } });
    const refused = await rejection(planScale(kubernetes, 'feeds', { to: 'replicas', replicas: 5 }));
    expect(refused).toMatchObject({ code: 'KUBE_AUTOSCALED', message: expect.stringContaining('2 to 9') });
    expect(
      (await rejection(planScale(kubernetes, 'feeds', { to: 'bounds', min: 10, max: undefined }))).code,
    ).toBe('USAGE');
    const change = await planScale(kubernetes, 'feeds', { to: 'bounds', min: 4, max: undefined });
    fake.answer(`${hpas}/mine`, { status: 200 });
    await scale(kubernetes, change, { dryRun: false });
    expect(fake.seen.at(-1)).toMatchObject({
      path: `${hpas}/mine`,
      body: { spec: { minReplicas: 4, maxReplicas: 9 } },
    });
    await kubernetes.close();
  });
});

describe('the kubeconfig', () => {
  const withEnv = async (env: Record<string, string | undefined>, options = {}) => {
    const names = ['KUBECONFIG', 'HOME'];
    const before = names.map((name) => [name, process.env[name]] as const);
    const set = (entries: readonly (readonly [string, string | undefined])[]) => {
      for (const [name, value] of entries) {
        if (value === undefined) delete process.env[name];
        else process.env[name] = value;
      }
    };
    set(Object.entries(env));
    try {
      return await rejection(openKubernetes(options));
    } finally {
      set(before);
    }
  };

  test('where there is none, or none that can be used, the error says so', async () => {
    const directory = await temporaryDirectory();
    const file = join(directory, 'config');
    expect(await withEnv({ KUBECONFIG: undefined, HOME: directory })).toMatchObject({
      code: 'KUBE_CONFIG_INVALID',
      message: expect.stringContaining('no kubeconfig'),
    });
    expect(await withEnv({ KUBECONFIG: file })).toMatchObject({
      message: expect.stringContaining('no such file'),
    });
    await writeFile(file, 'clusters: [');
    expect((await withEnv({ KUBECONFIG: file })).code).toBe('KUBE_CONFIG_INVALID');
    await writeFile(file, 'apiVersion: v1\nkind: Config\ncontexts: []\n');
    expect(await withEnv({ KUBECONFIG: file })).toMatchObject({
      message: expect.stringContaining('no current context'),
    });
    expect(await withEnv({ KUBECONFIG: file }, { kubeContext: 'prod' })).toMatchObject({
      message: expect.stringContaining('no context "prod"'),
    });
    await mkdir(join(directory, '.kube'));
  });
});
