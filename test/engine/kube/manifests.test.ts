import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { LASTING } from '../../../src/engine/bus/bus.ts';
import { partsOf } from '../../../src/engine/bus/rabbitmq/topology.ts';
import { readManifests } from '../../../src/engine/kube/manifests.ts';
import type { KubeObject } from '../../../src/engine/kube/object.ts';
import { DRAIN_MS } from '../../../src/engine/roles.ts';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
const OVERLAYS = readdirSync(join(ROOT, 'manifests/overlays'));

interface Container {
  name: string;
  args: string[];
  resources: { requests: Record<string, string>; limits: Record<string, string> };
  securityContext: object;
  lifecycle?: { preStop: { sleep: { seconds: number } } };
  livenessProbe?: { httpGet: { path: string; port: string } };
  readinessProbe?: { httpGet: { path: string; port: string } };
  ports?: { name: string; containerPort: number }[];
}
interface PodSpec {
  terminationGracePeriodSeconds: number;
  securityContext: object;
  automountServiceAccountToken: boolean;
  containers: Container[];
}

const podOf = ({ spec }: KubeObject) =>
  (spec as { template?: { spec: PodSpec } } | undefined)?.template?.spec;

describe.each(OVERLAYS)('the overlay %s', async (overlay) => {
  const objects = (await readManifests(overlay)).map(({ object }) => object);
  const pods = objects.flatMap((object) => podOf(object) ?? []);

  test('pods may do nothing that they need not', () => {
    expect(pods.length).toBe(3);
    for (const pod of pods) {
      expect(pod).toMatchObject({
        automountServiceAccountToken: false,
        securityContext: { runAsNonRoot: true, runAsUser: 1000, seccompProfile: { type: 'RuntimeDefault' } },
      });
      for (const { securityContext, resources } of pod.containers) {
        expect(securityContext).toMatchObject({
          allowPrivilegeEscalation: false,
          readOnlyRootFilesystem: true,
          capabilities: { drop: ['ALL'] },
        });
        expect(resources).toMatchObject({
          requests: { cpu: expect.any(String) },
          limits: { memory: expect.any(String) },
        });
      }
    }
  });

  test('a pod has longer to stop than its role takes', () => {
    for (const object of objects.filter(({ kind }) => kind === 'Deployment')) {
      const pod = podOf(object)!;
      const preStop = pod.containers[0]!.lifecycle?.preStop.sleep.seconds ?? 0;
      // Planner, cleaner and writer of a worker one after the other; of a gateway its sockets, requests and queue.
      expect(pod.terminationGracePeriodSeconds * 1_000, object.metadata.name).toBeGreaterThan(
        preStop * 1_000 + 3 * DRAIN_MS,
      );
    }
  });

  test('containers run commands that there are, and are asked at ports that they have', () => {
    for (const { args, livenessProbe, readinessProbe, ports } of pods.flatMap(
      ({ containers }) => containers,
    )) {
      const words = args.filter((word) => /^[a-z]+$/.test(word)).slice(0, 2);
      expect(existsSync(join(ROOT, 'src/commands', `${words.join('/')}.ts`)), words.join(' ')).toBe(true);
      for (const probe of [livenessProbe, readinessProbe])
        if (probe) expect(ports!.map(({ name }) => name)).toContain(probe.httpGet.port);
    }
  });

  test('settings are ones that are read', () => {
    const sources = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.ts'))
      .map((file) => readFileSync(join(ROOT, 'src', file), 'utf8'))
      .join('\n');
    const settings = objects.find(
      ({ kind, metadata }) => kind === 'ConfigMap' && metadata.name.startsWith('feedctl-'),
    )!;
    for (const name of Object.keys(settings.data as object)) expect(sources, name).toContain(name);
  });
});

describe('scaling', async () => {
  const objects = (await readManifests('prod')).map(({ object }) => object);
  const { spec } = objects.find(({ kind }) => kind === 'ScaledObject') as unknown as {
    spec: {
      minReplicaCount: number;
      maxReplicaCount: number;
      fallback: object;
      triggers: { type: string; metricType?: string; metadata: Record<string, string> }[];
    };
  };
  const trigger = (type: string) => spec.triggers.find((one) => one.type === type)!;

  test('the bounds and limits are those of the mission', () => {
    expect(spec).toMatchObject({
      minReplicaCount: 5,
      maxReplicaCount: 100,
      fallback: { failureThreshold: 3 },
    });
    expect(trigger('rabbitmq')).toMatchObject({
      metricType: 'Value',
      metadata: { value: '10000', operation: 'sum' },
    });
    expect(trigger('prometheus')).toMatchObject({ metricType: 'Value', metadata: { threshold: '5' } });
    expect(trigger('cpu').metadata.value).toBe('70');
    expect(trigger('cron').metadata.desiredReplicas).toBeDefined();
  });

  test('the broker is asked for the partitions of the live lane, and for nothing else', () => {
    const { queueName, pageSize } = trigger('rabbitmq').metadata;
    const partitions = 32;
    const all = LASTING.flatMap((queue) => partsOf(queue, partitions));
    const asked = all.filter((name) => new RegExp(queueName!).test(name));
    expect(asked).toEqual([...partsOf('events', partitions), ...partsOf('rows.live', partitions)]);
    expect(asked.length).toBeLessThan(Number(pageSize));
    expect(new RegExp(queueName!).test('feed.dead.events')).toBe(false);
  });

  test('the latency that is asked for is one that workers report', () => {
    const metrics = readFileSync(join(ROOT, 'docs/metrics.md'), 'utf8');
    const names = trigger('prometheus').metadata.query!.match(/feedctl_\w+?(?=_bucket|_count)/g)!;
    expect(new Set(names)).toEqual(new Set(['feedctl_fanout_latency_seconds']));
    expect(metrics).toContain(`| \`${names[0]}\` | histogram | \`lane\` |`);
  });

  test('it is of the live lane, and of this installation alone', () => {
    const { namespace } = objects.find(({ kind }) => kind === 'ScaledObject')!.metadata;
    const selectors = trigger('prometheus').metadata.query!.match(/\{.*?\}/g);
    const own = `{namespace="${namespace}",lane="live"}`;
    expect(selectors).toEqual([own, own]);
  });
});

test('the Dockerfile copies what there is, and what is not left out', () => {
  const copied = [
    ...readFileSync(join(ROOT, 'Dockerfile'), 'utf8').matchAll(/^COPY (?!--from)(.*) \S+$/gm),
  ].flatMap(([, sources]) => sources!.split(' '));
  const kept = readFileSync(join(ROOT, '.dockerignore'), 'utf8').match(/(?<=^!).*$/gm)!;
  expect(copied.length).toBeGreaterThan(5);
  for (const source of copied) {
    expect(existsSync(join(ROOT, source)), source).toBe(true);
    expect(kept, source).toContain(source.split('/')[0]);
  }
});
