import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse, stringify } from 'yaml';
import { openKubernetes } from '../../../src/engine/kubernetes/client.ts';
import { namespaceOfPod } from '../../../src/engine/kubernetes/kubeconfig.ts';
import type { KubeObject } from '../../../src/engine/kubernetes/object.ts';
import { planScale, restart, scale } from '../../../src/engine/kubernetes/scale.ts';
import { temporaryDirectory, waitUntil } from '../../support/cli.ts';
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
      [refusal(500, 'InternalError', 'etcd is down'), 'KUBE_UNREACHABLE', 'etcd is down'],
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

  test('a list whose moment the server has forgotten between two pages is read once more, as a whole', async () => {
    const names = (...all: string[]) => all.map((name) => ({ metadata: { name } }));
    fake.answer(
      PODS,
      { status: 200, body: { metadata: { continue: 'further' }, items: names('a', 'b') } },
      refusal(410, 'Expired', 'The provided continue parameter is too old'),
      { status: 200, body: { metadata: {}, items: names('b', 'c') } },
    );
    const kubernetes = await open();
    expect(await kubernetes.list(PODS, { labelSelector: 'x=y' })).toEqual(names('b', 'c'));
    expect(fake.seen.at(-1)!.query).toEqual({ labelSelector: 'x=y' });
    fake.answer(PODS, refusal(410, 'Expired', 'too old'));
    expect((await rejection(kubernetes.list(PODS))).code).toBe('KUBE_REFUSED');
    await kubernetes.close();
  });

  test('which kinds there are is asked again after a failure, and for a kind that was not there', async () => {
    const things = (...rows: object[]) => ({ status: 200, body: { resources: rows } });
    const thing = { name: 'things', kind: 'Thing', namespaced: true };
    const other = { name: 'others', kind: 'Other', namespaced: true };
    const unavailable = refusal(503, 'ServiceUnavailable', 'the aggregated API is down');
    fake.answer('/apis/example.com/v1', unavailable, things(other), things(other, thing));
    const kubernetes = await open();
    const object = { apiVersion: 'example.com/v1', kind: 'Thing', metadata: { name: 'one' } };
    expect((await rejection(kubernetes.pathOf(object, 'feeds'))).code).toBe('KUBE_UNREACHABLE');
    expect((await rejection(kubernetes.pathOf(object, 'feeds'))).code).toBe('KUBE_KIND_UNKNOWN');
    const path = '/apis/example.com/v1/namespaces/feeds/things/one';
    expect(await kubernetes.pathOf(object, 'feeds')).toBe(path);
    const asked = fake.seen.length;
    expect(await kubernetes.pathOf(object, 'feeds')).toBe(path);
    expect(fake.seen.length).toBe(asked);
    await kubernetes.close();
  });

  test('a token that was exchanged is read again, once, and with it the request is made once more', async () => {
    const directory = await temporaryDirectory();
    const kubeconfig = process.env.KUBECONFIG;
    const token = join(directory, 'token');
    const runs = join(directory, 'runs');
    // Counts the runs of the plugin: concurrent refused requests run it once.
    const plugin = `echo run >> '${runs}'; echo '{"status":{"token":"'$(cat '${token}')'"}}'`;
    const exec = { apiVersion: 'client.authentication.k8s.io/v1', command: 'sh', args: ['-c', plugin] };
    const users = [{ exec }, { 'auth-provider': { name: 'tokenFile', config: { tokenFile: token } } }];
    const no = refusal(401, 'Unauthorized', 'Unauthorized');
    const yes = { status: 200, body: { items: [] } };
    for (const user of users) {
      await writeFile(token, 'old');
      process.env.KUBECONFIG = await fake.kubeconfig(directory, user);
      const kubernetes = await open();
      fake.answer(PODS, yes);
      await kubernetes.list(PODS);
      expect(fake.seen.at(-1)!.authorization).toBe('Bearer old');
      await writeFile(token, 'new');
      fake.answer(PODS, no, no, no, yes);
      await Promise.all([kubernetes.list(PODS), kubernetes.list(PODS), kubernetes.list(PODS)]);
      expect(fake.seen.slice(-6).map(({ authorization }) => authorization)).toEqual([
        ...Array(3).fill('Bearer old'),
        ...Array(3).fill('Bearer new'),
      ]);
      fake.answer(PODS, no);
      const before = fake.seen.length;
      expect(await rejection(kubernetes.list(PODS))).toMatchObject({ code: 'KUBE_UNAUTHORIZED' });
      expect(fake.seen.length - before).toBe(2);
      await kubernetes.close();
    }
    expect((await readFile(runs, 'utf8')).match(/run/g)).toHaveLength(3);
    process.env.KUBECONFIG = kubeconfig;
  });

  test('a kubeconfig that was written anew gives new credentials, and no other cluster', async () => {
    const directory = await temporaryDirectory();
    const before = process.env.KUBECONFIG;
    const file = await fake.kubeconfig(directory, { token: 'old' });
    process.env.KUBECONFIG = file;
    const kubernetes = await open();
    // A new login, with another context as the current one.
    const config = parse(await readFile(await fake.kubeconfig(directory, { token: 'new' }), 'utf8'));
    config.clusters.push({ name: 'other', cluster: { server: 'https://127.0.0.1:1' } });
    config.users.push({ name: 'them', user: { token: 'of-another-cluster' } });
    config.contexts.push({ name: 'other', context: { cluster: 'other', user: 'them' } });
    config['current-context'] = 'other';
    await writeFile(file, stringify(config));
    fake.answer(PODS, refusal(401, 'Unauthorized', 'Unauthorized'), { status: 200, body: { items: [] } });
    expect(await kubernetes.list(PODS)).toEqual([]);
    expect(fake.seen.slice(-2).map(({ authorization }) => authorization)).toEqual([
      'Bearer old',
      'Bearer new',
    ]);
    // The context now names another cluster, which must not get these requests' credentials.
    config.clusters[0].cluster.server = 'https://127.0.0.1:1';
    config.users[0].user.token = 'of-another-cluster';
    await writeFile(file, stringify(config));
    fake.answer(PODS, refusal(401, 'Unauthorized', 'Unauthorized'));
    expect((await rejection(kubernetes.list(PODS))).code).toBe('KUBE_UNAUTHORIZED');
    expect(fake.seen.at(-1)!.authorization).toBe('Bearer new');
    await kubernetes.close();
    process.env.KUBECONFIG = before;
  });

  test('connections of credentials that were replaced are closed', async () => {
    const kubernetes = await open();
    const no = refusal(401, 'Unauthorized', 'Unauthorized');
    for (let round = 0; round < 5; round += 1) {
      fake.answer(PODS, no, { status: 200, body: { items: [] } });
      await kubernetes.list(PODS);
    }
    await waitUntil(async () => (await fake.connections()) === 1);
    await kubernetes.close();
    await waitUntil(async () => (await fake.connections()) === 0);
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

  test('what a rollout before this one failed of is no reason to give up this one', async () => {
    const kubernetes = await open();
    const path = `${DEPLOYMENTS}/feedctl-worker`;
    const conditions = [{ type: 'ReplicaFailure', status: 'True', message: 'exceeded quota' }];
    const done = { replicas: 3, updatedReplicas: 3, availableReplicas: 3, readyReplicas: 3 };
    fake.answer(
      path,
      { status: 200, body: worker() },
      { status: 200, body: worker({ ...done, observedGeneration: 1, conditions }) },
      { status: 200, body: worker({ ...done, observedGeneration: 2 }) },
    );
    const plan = { deployment: 'feedctl-worker', namespace: 'feeds', path, rollout: undefined as never };
    expect(await restart(kubernetes, plan, { wait: true, timeoutMs: 60_000 })).toMatchObject({ done: true });
    const short = { ...done, updatedReplicas: 1, observedGeneration: 2, conditions };
    fake.answer(path, { status: 200, body: worker(short) });
    expect(await rejection(restart(kubernetes, plan, { wait: true, timeoutMs: 60_000 }))).toMatchObject({
      message: expect.stringContaining('exceeded quota'),
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
    expect(fake.seen.at(-1)).toMatchObject({ path: `${hpas}/mine` });
    // A bound that was not passed would become owned, and a conflict for the next apply.
    expect(fake.seen.at(-1)!.body).toEqual({ spec: { minReplicas: 4 } });
    await kubernetes.close();
  });
});

test('in a pod the namespace is that of its service account; without a token there is none', async () => {
  const directory = await temporaryDirectory();
  await writeFile(join(directory, 'namespace'), 'feeds-eu\n');
  expect(await namespaceOfPod(directory)).toBeUndefined();
  await writeFile(join(directory, 'token'), 't');
  expect(await namespaceOfPod(directory)).toBe('feeds-eu');
  expect(await namespaceOfPod(join(directory, 'none'))).toBeUndefined();
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
    await writeFile(file, 'users:\n- name: a\n  user: {token: SECRET, "x\nclusters: []\n');
    expect((await withEnv({ KUBECONFIG: file })).message).toMatch(
      /^the kubeconfig cannot be read: [^\n]*line/,
    );
    expect((await withEnv({ KUBECONFIG: file })).message).not.toContain('SECRET');
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
