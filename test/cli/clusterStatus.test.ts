import { afterAll, beforeAll, expect, test } from 'vitest';
import { feedctl, start, temporaryDirectory, waitUntil } from '../support/cli.ts';
import { type KubernetesFake, refusal, startKubernetesFake } from '../support/kubernetesFake.ts';

const DEPLOYMENTS = '/apis/apps/v1/namespaces/feeds/deployments';
const WATCH = ['cluster', 'status', '--watch', '--interval', '1'];
const list = (...items: object[]) => ({ status: 200, body: { items } });
const deployment = { metadata: { name: 'feedctl-worker' }, spec: { replicas: 1, selector: {} } };

let fake: KubernetesFake;
let env: Record<string, string>;
beforeAll(async () => {
  fake = await startKubernetesFake();
  env = { KUBECONFIG: await fake.kubeconfig(await temporaryDirectory()) };
  const lists = [
    '/api/v1/namespaces/feeds/pods',
    '/api/v1/namespaces/feeds/events',
    '/apis/batch/v1/namespaces/feeds/jobs',
    '/apis/autoscaling/v2/namespaces/feeds/horizontalpodautoscalers',
  ];
  for (const path of lists) fake.answer(path, list());
});
afterAll(() => fake.close());

const unavailable = refusal(503, 'ServiceUnavailable', 'leader lost');

test('a look that fails is told of, and followed by another', async () => {
  fake.answer(DEPLOYMENTS, list(deployment), unavailable, list(deployment));
  const json = start([...WATCH, '--json'], { env });
  await waitUntil(async () => json.stdout().split('\n').length > 3);
  json.child.kill('SIGINT');
  expect((await json.ended).status).toBe(0);
  const looks = json
    .stdout()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(looks.slice(0, 3)).toMatchObject([
    { namespace: 'feeds' },
    { error: { code: 'KUBE_UNREACHABLE', message: expect.stringContaining('leader lost') } },
    { namespace: 'feeds' },
  ]);
  fake.answer(DEPLOYMENTS, list(deployment), unavailable);
  const text = start(WATCH, { env });
  await text.printed(/feedctl-worker[\s\S]*The last known state\. Now: .*leader lost \(KUBE_UNREACHABLE\)/);
  text.child.kill('SIGINT');
  expect((await text.ended).status).toBe(0);
});

test('what fails from the beginning ends it', async () => {
  fake.answer(DEPLOYMENTS, unavailable);
  expect(await feedctl(WATCH, { env })).toMatchObject({
    status: 1,
    stderr: expect.stringContaining('leader lost'),
  });
});

test('it ends when nobody reads any more', async () => {
  fake.answer(DEPLOYMENTS, list(deployment));
  const watch = start([...WATCH, '--json'], { env });
  await watch.printed(/feedctl-worker/);
  watch.child.stdout!.destroy();
  expect(await watch.ended).toMatchObject({ status: 0, stderr: '' });
});
