import { spawnSync } from 'node:child_process';
import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest';
import { parse } from 'yaml';
import { OVERLAYS, renderedFile } from '../../scripts/manifests.ts';
import type { Kubernetes } from '../../src/engine/kubernetes/client.ts';
import type { KubeObject } from '../../src/engine/kubernetes/object.ts';
import type { Plan } from '../../src/engine/kubernetes/plan.ts';
import type { KubeStatus } from '../../src/engine/kubernetes/status.ts';
import { feedctl, json, type Outcome, start, temporaryDirectory, waitUntil } from '../support/cli.ts';
import {
  customResources,
  type KubernetesServer,
  kubernetesAssets,
  kubernetesOf,
  startKubernetes,
} from '../support/kubernetes.ts';
import { everyComponent } from '../support/manifests.ts';

const assets = kubernetesAssets();
/** The test process may create mount namespaces. */
const mayMount = process.getuid?.() === 0 && spawnSync('unshare', ['--mount', 'true']).status === 0;
const WORKER = '/apis/apps/v1/namespaces/feedctl/deployments/feedctl-worker';
const SCALED = '/apis/keda.sh/v1alpha1/namespaces/feedctl/scaledobjects/feedctl-worker';

/**
 * Runs against a real API server and etcd, without controllers: the tests write what a controller
 * would.
 */
describe.skipIf(!assets)('in Kubernetes', () => {
  let server: KubernetesServer;
  let kubernetes: Kubernetes;
  let directory: string;
  let env: Record<string, string>;

  beforeAll(async () => {
    directory = await temporaryDirectory();
    server = await startKubernetes(assets!, directory);
    const admin = await server.kubeconfig('admin');
    kubernetes = await kubernetesOf(admin);
    for (const one of await customResources())
      await kubernetes.apply(await kubernetes.pathOf(one, ''), one, { force: false, dryRun: false });
    await waitUntil(() => served(kubernetes));
    env = { KUBECONFIG: admin };
  }, 180_000);

  afterAll(async () => {
    await kubernetes?.close();
    await server?.stop();
  });

  /** A kind is served a moment after its definition is applied. */
  async function served(api: Kubernetes): Promise<boolean> {
    const groups = ['/apis/keda.sh/v1alpha1', '/apis/monitoring.coreos.com/v1'];
    return (await Promise.all(groups.map((path) => api.find(path)))).every(Boolean);
  }

  const failure = ({ stdout, status }: Outcome) => ({ status, ...JSON.parse(stdout).error });
  const failing = async (args: string[], as = env) =>
    failure(await feedctl([...args, '--json'], { env: as }));

  async function namespace(name: string): Promise<void> {
    const object: KubeObject = { apiVersion: 'v1', kind: 'Namespace', metadata: { name } };
    await kubernetes.apply(`/api/v1/namespaces/${name}`, object, { force: false, dryRun: false });
  }

  /** Writes the status that controllers write when all pods have the newest template. */
  async function rolledOut(path: string): Promise<void> {
    const { metadata, spec } = await kubernetes.get(path);
    const { replicas } = spec as { replicas: number };
    const counts = {
      replicas,
      updatedReplicas: replicas,
      readyReplicas: replicas,
      availableReplicas: replicas,
    };
    await kubernetes.patch(`${path}/status`, 'merge', {
      status: { observedGeneration: metadata.generation, ...counts },
    });
  }

  /** Writes the status that the controller writes when a Job's pod has succeeded. */
  async function completed(path: string): Promise<void> {
    const at = new Date().toISOString();
    const conditions = ['SuccessCriteriaMet', 'Complete'].map((type) => ({
      type,
      status: 'True',
      lastTransitionTime: at,
    }));
    await kubernetes.patch(`${path}/status`, 'merge', {
      status: { succeeded: 1, startTime: at, completionTime: at, conditions },
    });
  }

  test.each([...OVERLAYS, 'with every component'])(
    'the server takes every object of the overlay %s',
    async (overlay) => {
      const name = `checked-${overlay.replaceAll(' ', '-')}`;
      await namespace(name);
      const path = OVERLAYS.includes(overlay) ? overlay : await everyComponent(directory);
      const plan = await json<Plan>(['cluster', 'plan', path, '--namespace', name], { env });
      const open = plan.objects.filter(({ kind, action }) => action !== 'added' && kind !== 'Namespace');
      expect(open).toEqual([]);
      expect(plan.objects.length).toBeGreaterThan(10);
      expect(plan.missingSecrets).toContain('feedctl');
      expect(await kubernetes.list(`/apis/apps/v1/namespaces/${name}/deployments`)).toEqual([]);
    },
  );

  test('apply makes everything in order, waits for the migration, and then changes nothing', async () => {
    const apply = start(['cluster', 'apply', 'prod', '--yes', '--json', '--timeout', '120'], { env });
    const job = '/apis/batch/v1/namespaces/feedctl/jobs/feedctl-migrate';
    await waitUntil(async () => Boolean(await kubernetes.find(job)));
    expect(await kubernetes.find(WORKER)).toBeUndefined();
    await completed(job);
    const gateway = WORKER.replace('worker', 'gateway');
    await waitUntil(async () => Boolean(await kubernetes.find(SCALED)));
    await rolledOut(WORKER);
    await rolledOut(gateway);
    const outcome = await apply.ended;
    expect(outcome, outcome.stdout + outcome.stderr).toMatchObject({ status: 0 });
    expect(JSON.parse(outcome.stdout)).toMatchObject({
      namespace: 'feedctl',
      rollouts: [{ done: true }, { done: true }],
    });
    const again = await json<Plan>(['cluster', 'plan', 'prod'], { env });
    expect(again.objects.filter(({ action }) => action !== 'unchanged')).toEqual([]);
    const { metadata } = await kubernetes.get(WORKER);
    expect(metadata.managedFields).toContainEqual(
      expect.objectContaining({ manager: 'feedctl', operation: 'Apply' }),
    );
  });

  test('a newer image is shown field by field; the Job is made anew', async () => {
    const args = ['cluster', 'plan', 'prod', '--image', 'registry.example/feedctl:0.2.0'];
    const { stdout, status } = await feedctl(args, { env });
    expect(status).toBe(0);
    expect(stdout).toMatch(/^! Job\/feedctl-migrate: deleted and created again$/m);
    const image = 'spec.template.spec.containers[name=worker].image';
    const change = '"registry.example/feedctl:0.1.0" -> "registry.example/feedctl:0.2.0"';
    expect(`\n${stdout}`).toContain(`\n~ Deployment/feedctl-worker\n    ${image}: ${change}\n`);
    const before = await kubernetes.get('/apis/batch/v1/namespaces/feedctl/jobs/feedctl-migrate');
    // The Job never completes, and --no-wait does not wait for it.
    await json(['cluster', 'apply', ...args.slice(2), '--yes', '--no-wait'], { env });
    const after = await kubernetes.get('/apis/batch/v1/namespaces/feedctl/jobs/feedctl-migrate');
    expect(after.metadata.uid).not.toBe(before.metadata.uid);
  });

  test('without somebody to ask nothing is applied', async () => {
    const args = ['cluster', 'apply', 'prod'];
    expect(await failing(args)).toMatchObject({ status: 2, code: 'CONFIRMATION_REQUIRED' });
    const plan = await json<{ dryRun: boolean }>([...args, '--dry-run'], { env });
    expect(plan.dryRun).toBe(true);
    expect(JSON.stringify((await kubernetes.get(WORKER)).spec)).toContain('feedctl:0.2.0');
    const production = { ...env, FEEDCTL_PRODUCTION: 'true' };
    expect(await failing([...args, '--yes'], production)).toMatchObject({ code: 'CONFIRMATION_REQUIRED' });
  });

  test('status exits by what it finds', async () => {
    await rolledOut(WORKER);
    await rolledOut(WORKER.replace('worker', 'gateway'));
    const good = await json<KubeStatus>(['cluster', 'status'], { env });
    expect(good).toMatchObject({
      healthy: true,
      deployments: [{ name: 'feedctl-gateway' }, { name: 'feedctl-worker' }],
    });
    const pod: KubeObject = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        name: 'feedctl-worker-5d9f-x2x4z',
        labels: { 'app.kubernetes.io/part-of': 'feedctl', 'app.kubernetes.io/component': 'worker' },
      },
      spec: {
        containers: [{ name: 'worker', image: 'feedctl', ...RESTRICTED }],
        securityContext: { runAsNonRoot: true },
      },
    };
    const path = '/api/v1/namespaces/feedctl/pods/feedctl-worker-5d9f-x2x4z';
    await kubernetes.apply(path, pod, { force: false, dryRun: false });
    const state = {
      waiting: { reason: 'CrashLoopBackOff', message: 'back-off 5m0s' },
    };
    const lastState = { terminated: { reason: 'OOMKilled', exitCode: 137, message: 'out of memory' } };
    const container = {
      name: 'worker',
      image: 'feedctl',
      imageID: '',
      ready: false,
      restartCount: 7,
      state,
      lastState,
    };
    await kubernetes.patch(`${path}/status`, 'merge', {
      status: { phase: 'Running', containerStatuses: [container] },
    });
    const event: KubeObject = {
      apiVersion: 'v1',
      kind: 'Event',
      metadata: { name: 'crash.1' },
      involvedObject: { kind: 'Pod', name: pod.metadata.name, namespace: 'feedctl' },
      type: 'Warning',
      reason: 'BackOff',
      message: 'Back-off restarting failed container',
      lastTimestamp: new Date().toISOString(),
      count: 12,
    };
    await kubernetes.apply('/api/v1/namespaces/feedctl/events/crash.1', event, {
      force: false,
      dryRun: false,
    });
    const { stdout, status } = await feedctl(['cluster', 'status', '--json'], { env });
    expect(status).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({
      healthy: false,
      pods: [
        {
          component: 'worker',
          restarts: 7,
          ready: false,
          reason: 'CrashLoopBackOff: OOMKilled',
          message: 'out of memory',
        },
      ],
      autoscalers: [{ kind: 'ScaledObject', min: 5, max: 100 }, { kind: 'HorizontalPodAutoscaler' }],
      events: [{ object: `Pod/${pod.metadata.name}`, reason: 'BackOff', count: 12 }],
    });
    const text = await feedctl(['cluster', 'status'], { env });
    expect(text.stdout).toContain('CrashLoopBackOff: OOMKilled: out of memory');
    expect(text.stdout).toContain('NOT HEALTHY');
    // The pod is listed although its worker never reached the database.
    const list = await json<{ workers: unknown[]; pods: { name: string }[] }>(['worker', 'list'], {
      env: { ...env, FEEDCTL_NAMESPACE: 'feedctl', FEEDCTL_DATABASE_URL: inject('serverUrl') },
    });
    expect(list).toMatchObject({ workers: [], pods: [{ name: pod.metadata.name, restarts: 7 }] });
    await kubernetes.delete(path);
  });

  test('workers are scaled through KEDA where it owns them, and given back', async () => {
    const scaled = () => kubernetes.get<KubeObject & { spec: { minReplicaCount: number } }>(SCALED);
    const annotation = 'autoscaling.keda.sh/paused-replicas';
    const replicas = (await kubernetes.get<KubeObject & { spec: { replicas: number } }>(WORKER)).spec
      .replicas;
    const rehearsed = await json<{ by: string }>(['worker', 'scale', '9', '--dry-run'], { env });
    expect(rehearsed.by).toBe('pause');
    expect((await scaled()).metadata.annotations).toBeUndefined();
    await json(['worker', 'scale', '9'], { env });
    expect((await scaled()).metadata.annotations).toEqual({ [annotation]: '9' });
    expect((await kubernetes.get(WORKER)).spec).toMatchObject({ replicas });
    // An apply keeps the pause.
    await json(['cluster', 'apply', 'prod', '--yes', '--no-wait'], { env });
    expect((await scaled()).metadata.annotations).toEqual({ [annotation]: '9' });
    await json(['worker', 'scale', '--auto'], { env });
    expect((await scaled()).metadata.annotations ?? {}).toEqual({});
    expect(await failing(['worker', 'scale'])).toMatchObject({ status: 2, code: 'USAGE' });
    expect(await failing(['worker', 'scale', '0'])).toMatchObject({
      status: 2,
      code: 'CONFIRMATION_REQUIRED',
    });
  });

  test('bounds that an operator changed are a conflict for an apply, which names field and manager', async () => {
    await json(['worker', 'scale', '--min', '8'], { env });
    const conflict = await failing(['cluster', 'apply', 'prod', '--yes', '--no-wait']);
    expect(conflict).toMatchObject({ status: 1, code: 'KUBE_CONFLICT' });
    expect(conflict.message).toContain('.spec.minReplicaCount is owned by feedctl-operator');
    expect(conflict.suggestions[0]).toContain('--force-conflicts');
    expect((await kubernetes.get(SCALED)).spec).toMatchObject({ minReplicaCount: 8 });
    await json(['cluster', 'apply', 'prod', '--yes', '--no-wait', '--force-conflicts'], { env });
    expect((await kubernetes.get(SCALED)).spec).toMatchObject({ minReplicaCount: 5 });
  });

  test('without an autoscaler the deployment itself is scaled, and restarted', async () => {
    await kubernetes.delete(SCALED);
    expect(await json(['worker', 'scale', '4'], { env })).toMatchObject({
      by: 'replicas',
      deployment: 'feedctl-worker',
    });
    expect((await kubernetes.get(WORKER)).spec).toMatchObject({ replicas: 4 });
    expect(await failing(['worker', 'scale', '--auto'])).toMatchObject({ code: 'USAGE' });
    const before = (await kubernetes.get(WORKER)).metadata.generation!;
    const restart = start(['worker', 'restart', '--yes', '--json'], { env });
    await waitUntil(async () => (await kubernetes.get(WORKER)).metadata.generation! > before);
    await rolledOut(WORKER);
    expect(await restart.ended).toMatchObject({ status: 0 });
    const { spec } = await kubernetes.get(WORKER);
    expect(JSON.stringify(spec)).toContain('kubectl.kubernetes.io/restartedAt');
    // The next apply reverts neither the number nor the restart.
    const plan = await json<Plan>(['cluster', 'plan', 'prod'], { env });
    expect(
      plan.objects.find(({ kind, name }) => kind === 'Deployment' && name === 'feedctl-worker')!.action,
    ).toBe('unchanged');
  });

  test('what the manifests hold no more is named, and deleted when that is asked for and confirmed', {
    timeout: 120_000,
  }, async () => {
    const smaller = join(directory, 'smaller.yaml');
    const base = await readFile(renderedFile('dev'), 'utf8');
    // An object of feedctl that the next manifests omit, a Secret, and an object without the label.
    const labels = { 'app.kubernetes.io/part-of': 'feedctl' };
    const config = (name: string, more: object) => ({
      apiVersion: 'v1',
      kind: 'ConfigMap',
      metadata: { name, ...more },
    });
    const secret = { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'of-ours', labels } };
    const extra = [config('extra', { labels }), config('unlabelled', {}), secret];
    const more = extra.map((one) => JSON.stringify(one)).join('\n---\n');
    await writeFile(join(directory, 'extra.yaml'), more);
    const inPruned = [smaller, '--namespace', 'pruned'];
    await namespace('pruned');
    await writeFile(smaller, `${base}---\n${more}`);
    await json(['cluster', 'apply', ...inPruned, '--yes', '--no-wait'], { env });
    const configs = '/api/v1/namespaces/pruned/configmaps';
    // A change by an operator does not make another manager apply the object.
    await kubernetes.patch(`${configs}/extra`, 'merge', { metadata: { annotations: { seen: 'yes' } } });
    await writeFile(smaller, base);
    const plan = await json<Plan>(['cluster', 'plan', ...inPruned], { env });
    expect(plan.leftovers).toMatchObject([{ kind: 'ConfigMap', name: 'extra' }]);
    const args = ['cluster', 'apply', ...inPruned, '--prune'];
    expect(await failing([...args, '--yes', '--no-wait'])).toMatchObject({ status: 2, code: 'USAGE' });
    const asked = await feedctl(args, { env });
    expect(asked).toMatchObject({ status: 2, stderr: expect.stringContaining('CONFIRMATION_REQUIRED') });
    expect(asked.stderr).toContain('- ConfigMap/extra: no longer in the manifests');
    expect(
      await failing([
        'cluster',
        'apply',
        join(directory, 'extra.yaml'),
        '--namespace',
        'pruned',
        '--prune',
        '--yes',
      ]),
    ).toMatchObject({ code: 'USAGE' });
    expect(await kubernetes.find(`${configs}/extra`)).toBeDefined();
    const job = '/apis/batch/v1/namespaces/pruned/jobs/feedctl-migrate';
    await completed(job);
    const deployments = '/apis/apps/v1/namespaces/pruned/deployments';
    for (const role of ['worker', 'gateway']) await rolledOut(`${deployments}/feedctl-${role}`);
    const applied = await json<{ pruned: object[] }>([...args, '--yes'], { env });
    expect(applied.pruned).toMatchObject([{ kind: 'ConfigMap', name: 'extra' }]);
    expect(await kubernetes.find(`${configs}/extra`)).toBeUndefined();
    const names = (await kubernetes.list(configs)).map(({ metadata }) => metadata.name);
    expect(names).toContain('unlabelled');
    expect(await kubernetes.exists('/api/v1/namespaces/pruned/secrets/of-ours')).toBe(true);
    expect((await json<Plan>(['cluster', 'plan', ...inPruned], { env })).leftovers).toEqual([]);
  });

  test('a definition and an object of its kind come in one manifest', async () => {
    const file = join(directory, 'things.yaml');
    const schema = { openAPIV3Schema: { type: 'object', properties: { spec: { type: 'object' } } } };
    const definition = {
      apiVersion: 'apiextensions.k8s.io/v1',
      kind: 'CustomResourceDefinition',
      metadata: { name: 'things.example.org' },
      spec: {
        group: 'example.org',
        scope: 'Namespaced',
        names: { kind: 'Thing', plural: 'things', singular: 'thing', listKind: 'ThingList' },
        versions: [{ name: 'v1', served: true, storage: true, schema }],
      },
    };
    const thing = { apiVersion: 'example.org/v1', kind: 'Thing', metadata: { name: 'one' } };
    await writeFile(file, [thing, definition].map((one) => JSON.stringify(one)).join('\n---\n'));
    const args = [file, '--namespace', 'default'];
    const plan = await json<Plan>(['cluster', 'plan', ...args], { env });
    expect(plan.objects).toMatchObject([
      { kind: 'CustomResourceDefinition', action: 'added' },
      { kind: 'Thing', action: 'unchecked', namespace: 'default' },
    ]);
    await json(['cluster', 'apply', ...args, '--yes'], { env });
    expect(await kubernetes.find('/apis/example.org/v1/namespaces/default/things/one')).toBeDefined();
    const again = await json<Plan>(['cluster', 'plan', ...args], { env });
    expect(again.objects).toMatchObject([{ action: 'unchanged' }, { action: 'unchanged' }]);
  });

  test('a migration that fails holds up the workers, and says why', async () => {
    await namespace('failing');
    const args = ['cluster', 'apply', 'dev', '--namespace', 'failing', '--yes', '--json', '--timeout', '60'];
    const apply = start(args, { env });
    const job = '/apis/batch/v1/namespaces/failing/jobs/feedctl-migrate';
    await waitUntil(async () => Boolean(await kubernetes.find(job)));
    const at = new Date().toISOString();
    const conditions = ['FailureTarget', 'Failed'].map((type) => ({
      type,
      status: 'True',
      reason: 'BackoffLimitExceeded',
      message: 'Job has reached the specified backoff limit',
      lastTransitionTime: at,
    }));
    await kubernetes.patch(`${job}/status`, 'merge', { status: { failed: 5, startTime: at, conditions } });
    expect(failure(await apply.ended)).toMatchObject({
      status: 1,
      code: 'KUBE_ROLLOUT_FAILED',
      message: expect.stringContaining('backoff limit'),
    });
    expect(await kubernetes.list('/apis/apps/v1/namespaces/failing/deployments')).toEqual([]);
    // After the cause is fixed, the same command runs the Job again.
    const plan = await json<Plan>(['cluster', 'plan', 'dev', '--namespace', 'failing'], { env });
    expect(plan.objects.find(({ kind }) => kind === 'Job')!.action).toBe('replaced');
  });

  test('who may not, whose token has expired, and a namespace that is not there', async () => {
    const as = async (who: 'nobody' | 'expired') => ({ KUBECONFIG: await server.kubeconfig(who) });
    const forbidden = await failing(['cluster', 'apply', 'prod', '--yes'], await as('nobody'));
    expect(forbidden).toMatchObject({ status: 1, code: 'KUBE_FORBIDDEN' });
    expect(forbidden.message).toContain('User "nobody" cannot');
    for (const args of [
      ['cluster', 'status'],
      ['cluster', 'plan', 'prod'],
      ['worker', 'scale', '1'],
    ])
      expect(await failing(args, await as('expired')), args.join(' ')).toMatchObject({
        status: 1,
        code: 'KUBE_UNAUTHORIZED',
      });
    for (const args of [
      ['cluster', 'status'],
      ['worker', 'restart', '--yes'],
    ])
      expect(await failing([...args, '--namespace', 'nowhere']), args.join(' ')).toMatchObject({
        status: 1,
        code: 'KUBE_NAMESPACE_MISSING',
      });
    const file = join(directory, 'one.yaml');
    await writeFile(file, 'apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: one\n');
    expect(await failing(['cluster', 'plan', file, '--namespace', 'nowhere'])).toMatchObject({
      code: 'KUBE_NAMESPACE_MISSING',
    });
    expect(await failing(['cluster', 'status', '--namespace', 'default'])).toMatchObject({
      code: 'KUBE_NOT_FOUND',
    });
    const down = { KUBECONFIG: join(directory, 'down') };
    await writeFile(down.KUBECONFIG, UNREACHABLE_KUBECONFIG);
    expect(await failing(['cluster', 'status'], down)).toMatchObject({ status: 1, code: 'KUBE_UNREACHABLE' });
  });

  test('a field that the server does not know and a kind that it does not serve are refused, with their place', async () => {
    const file = join(directory, 'wrong.yaml');
    const config = 'apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: good\n---\n';
    await writeFile(file, `${config}apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: bad\ndatum: {}\n`);
    const args = ['cluster', 'apply', file, '--namespace', 'default', '--yes'];
    const refused = await failing(args);
    expect(refused).toMatchObject({ status: 1, code: 'KUBE_REFUSED' });
    expect(refused.message).toMatch(/ConfigMap\/bad \(.*wrong\.yaml:6\): .*datum/);
    await writeFile(file, `${config}apiVersion: example.com/v1\nkind: Thing\nmetadata:\n  name: bad\n`);
    expect(await failing(args)).toMatchObject({ status: 1, code: 'KUBE_KIND_UNKNOWN' });
    expect(await kubernetes.find('/api/v1/namespaces/default/configmaps/good')).toBeUndefined();
    expect(await failing(['cluster', 'plan', join(directory, 'none')])).toMatchObject({
      code: 'FILE_NOT_FOUND',
    });
  });

  test('the operator’s role is enough for status, scale and restart, and not for an apply', async () => {
    const account = await kubernetes.get('/api/v1/namespaces/feedctl/serviceaccounts/feedctl-operator');
    const token = server.tokenOf(account);
    // The namespace's pod security policy accepts the pod of the documentation.
    const page = await readFile(new URL('../../docs/guides/kubernetes.md', import.meta.url), 'utf8');
    const pod = parse(/^# operator\.yaml;[\s\S]*?(?=^```)/m.exec(page)![0]) as KubeObject;
    const path = '/api/v1/namespaces/feedctl/pods/feedctl-operator';
    await kubernetes.apply(path, pod, { force: false, dryRun: true });
    const operator = { KUBECONFIG: await server.kubeconfig({ token }, 'feedctl') };
    const { stdout } = await feedctl(['cluster', 'status', '--json'], { env: operator });
    expect(JSON.parse(stdout)).toMatchObject({ namespace: 'feedctl' });
    await json(['worker', 'scale', '3'], { env: operator });
    await json(['worker', 'restart', '--yes', '--no-wait'], { env: operator });
    expect(await failing(['cluster', 'apply', 'prod', '--yes'], operator)).toMatchObject({
      code: 'KUBE_FORBIDDEN',
    });
  });

  test.skipIf(!mayMount)(
    'in a pod the service account is enough, and says where its workers are',
    async () => {
      const account = await kubernetes.get('/api/v1/namespaces/feedctl/serviceaccounts/feedctl-operator');
      const files = join(directory, 'account');
      await mkdir(files);
      await writeFile(join(files, 'token'), server.tokenOf(account));
      await writeFile(join(files, 'namespace'), 'feedctl');
      await cp(join(directory, 'apiserver.crt'), join(files, 'ca.crt'));
      const { hostname, port } = new URL(server.url);
      const inPod = (...args: string[]) =>
        feedctl([...args, '--json'], {
          executable: 'unshare',
          node: ['--mount', 'sh', '-c', IN_A_POD, 'sh', files, process.execPath],
          env: {
            HOME: '/nonexistent',
            KUBECONFIG: '',
            KUBERNETES_SERVICE_HOST: hostname,
            KUBERNETES_SERVICE_PORT: port,
            FEEDCTL_DATABASE_URL: inject('serverUrl'),
          },
        });
      const list = await inPod('worker', 'list');
      expect(list, list.stdout + list.stderr).toMatchObject({ status: 0 });
      expect(JSON.parse(list.stdout)).toMatchObject({ pods: [] });
      const status = await inPod('cluster', 'status');
      expect(JSON.parse(status.stdout)).toMatchObject({ server: server.url, namespace: 'feedctl' });
    },
  );
});

/** Mounts the files of a service account where pods have them, for one process. */
const IN_A_POD = `set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /var/run/secrets/kubernetes.io/serviceaccount
cp "$1"/* /var/run/secrets/kubernetes.io/serviceaccount
shift
exec "$@"`;

/** Security settings that the namespace's policy requires. */
const RESTRICTED = {
  securityContext: {
    allowPrivilegeEscalation: false,
    runAsNonRoot: true,
    capabilities: { drop: ['ALL'] },
    seccompProfile: { type: 'RuntimeDefault' },
  },
};

/** No server listens on port 1. */
const UNREACHABLE_KUBECONFIG = `apiVersion: v1
kind: Config
current-context: down
clusters: [{ name: down, cluster: { server: 'https://127.0.0.1:1' } }]
users: [{ name: me, user: { token: t } }]
contexts: [{ name: down, context: { cluster: down, user: me } }]
`;
