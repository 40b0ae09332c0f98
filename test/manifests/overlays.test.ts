import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { OVERLAYS } from '../../scripts/manifests.ts';
import { DURABLE_QUEUES } from '../../src/engine/bus/bus.ts';
import { partitionsOf } from '../../src/engine/bus/rabbitmq/queueNames.ts';
import { DRAIN_MS } from '../../src/engine/cluster/roles.ts';
import { readManifests } from '../../src/engine/kubernetes/manifests.ts';
import type { KubeObject } from '../../src/engine/kubernetes/object.ts';
import { temporaryDirectory } from '../support/cli.ts';
import { everyComponent } from '../support/manifests.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));

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
  enableServiceLinks: boolean;
  serviceAccountName: string;
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
        enableServiceLinks: false,
        serviceAccountName: 'feedctl',
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
      // A worker drains planner, cleaner and writer in sequence; a gateway sockets, requests and
      // queue.
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

interface Policy {
  podSelector: { matchLabels: Record<string, string> };
  egress?: { ports: { port: number; protocol?: string }[]; to?: object[] }[];
}

describe('network policies', async () => {
  const file = await everyComponent(await temporaryDirectory());
  const objects = (await readManifests(file)).map(({ object }) => object);
  const policies = objects.filter(({ kind }) => kind === 'NetworkPolicy').map(({ spec }) => spec as Policy);
  /** Returns the ports to which pods of a component may connect anywhere, as `port/protocol`. */
  const outOf = (component: string) =>
    policies
      .filter(({ podSelector: { matchLabels } }) =>
        [undefined, component].includes(matchLabels['app.kubernetes.io/component']),
      )
      .flatMap(({ egress = [] }) => egress.filter(({ to }) => to === undefined))
      .flatMap(({ ports }) => ports.map(({ port, protocol = 'TCP' }) => `${port}/${protocol}`))
      .sort();
  const everywhere = [53, 4318, 5432, 5671, 5672, 6379, 15_671, 15_672].map((port) => `${port}/TCP`);

  test('pods reach every server that they are told of, and no API server', () => {
    for (const component of ['worker', 'gateway', 'migrate'])
      expect(outOf(component), component).toEqual([...everywhere, '53/UDP', '8125/UDP'].sort());
  });

  test('an operator’s pod reaches the API server, too', () => {
    expect(outOf('operator')).toEqual([...everywhere, '443/TCP', '6443/TCP', '53/UDP', '8125/UDP'].sort());
  });
});

test('each Service has one port that the ServiceMonitor asks, and all are one job', async () => {
  const objects = (await readManifests('prod')).map(({ object }) => object);
  const monitor = objects.find(({ kind }) => kind === 'ServiceMonitor')!.spec as {
    endpoints: { port: string; relabelings: object[] }[];
  };
  const job = { sourceLabels: ['namespace'], targetLabel: 'job', replacement: '$1/feedctl' };
  for (const { relabelings } of monitor.endpoints) expect(relabelings).toEqual([job]);
  const asked = monitor.endpoints.map(({ port }) => port);
  const services = objects.filter(({ kind }) => kind === 'Service');
  expect(services.map(({ metadata }) => metadata.name)).toEqual(['feedctl-worker', 'feedctl-gateway']);
  for (const { spec } of services) {
    const names = (spec as { ports: { name: string }[] }).ports.map(({ name }) => name);
    expect(names.filter((name) => asked.includes(name))).toHaveLength(1);
  }
});

test('the database of compose is asked over TCP, where it listens only when it has been prepared', () => {
  const { services } = parse(readFileSync(join(ROOT, 'compose.yaml'), 'utf8'), { merge: true }) as {
    services: Record<string, { healthcheck?: { test: string[] } }>;
  };
  const { test: asked } = services.citus!.healthcheck!;
  expect(asked.slice(0, 4)).toEqual(['CMD', 'pg_isready', '-h', '127.0.0.1']);
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
    const all = DURABLE_QUEUES.flatMap((queue) => partitionsOf(queue, partitions));
    const asked = all.filter((name) => new RegExp(queueName!).test(name));
    expect(asked).toEqual([...partitionsOf('events', partitions), ...partitionsOf('rows.live', partitions)]);
    expect(asked.length).toBeLessThan(Number(pageSize));
    expect(new RegExp(queueName!).test('feed.dead.events')).toBe(false);
  });

  test('the latency that is asked for is one that workers report', () => {
    const metrics = readFileSync(join(ROOT, 'docs/reference/metrics.md'), 'utf8');
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
