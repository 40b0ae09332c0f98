import { execFileSync, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  feedctl,
  json,
  type Running,
  type SpawnOptions,
  temporaryDirectory,
  testRole,
  up,
} from '../support/cli.ts';
import { FOUNDATIONS, type SpawnedCluster, spawnedCluster } from '../support/spawnedCluster.ts';

interface Listed {
  gateways: { id: string; url: string; ready: boolean; reason: string | null }[];
  sharedUrls: { url: string; gatewayIds: string[] }[];
}
interface Started {
  gatewayId: string;
  gatewayUrl: string;
  advertisedUrl: string;
}

const startedBy = (role: Running) => JSON.parse(role.stdout()) as Started;
const gateway = async (flags: readonly string[], at: SpawnOptions) => {
  const role = await testRole(['gateway', 'start', ...flags], at);
  return { ...role, ...startedBy(role) };
};

/** Two machines, as the processes on them see it: each has a network, and a cable leads to the other. */
function twoMachines(): { name: string; address: string; on: (at: SpawnOptions) => SpawnOptions }[] {
  const machines = ['10.201.0.1', '10.201.0.2'].map((address) => ({
    name: `feedctl-${randomUUID()}`,
    address,
  }));
  const ip = (...args: string[]) => execFileSync('ip', args);
  for (const { name } of machines) {
    ip('netns', 'add', name);
    onTestFinished(() => void ip('netns', 'delete', name));
  }
  const [a, b] = machines.map(({ name }) => name) as [string, string];
  ip('link', 'add', 'eth0', 'netns', a, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', b);
  for (const { name, address } of machines) {
    ip('-n', name, 'address', 'add', `${address}/24`, 'dev', 'eth0');
    for (const link of ['lo', 'eth0']) ip('-n', name, 'link', 'set', link, 'up');
  }
  return machines.map(({ name, address }) => ({
    name,
    address,
    on: (at) => ({ ...at, executable: 'ip', node: ['netns', 'exec', name, process.execPath] }),
  }));
}

/** Returns why this machine has no network namespaces for a test, or undefined if it has. */
function withoutNamespaces(): string | undefined {
  if (process.getuid?.() !== 0) return 'this user is not root';
  const name = `feedctl-${randomUUID()}`;
  const added = spawnSync('ip', ['netns', 'add', name]);
  if (added.status !== 0) return `ip netns add: ${added.error?.message ?? added.stderr}`;
  spawnSync('ip', ['netns', 'delete', name]);
  return undefined;
}
const missing = withoutNamespaces();
if (missing) process.stderr.write(`\n*** TESTS SKIPPED, no network namespaces: ${missing} ***\n\n`);

describe.skipIf(missing)('on two machines', () => {
  test('gateways on all addresses are known by different URLs, and the one that is named is drained', {
    timeout: 180_000,
  }, async () => {
    // Both reach the database through its socket in the file system.
    const cluster = await spawnedCluster(FOUNDATIONS[0]);
    const machines = twoMachines();
    const flags = ['--host', '0.0.0.0', '--port', '8080'];
    const [a, b] = await Promise.all(machines.map(({ on }) => gateway(flags, on(cluster.at))));
    expect([a, b].map((one) => [one!.gatewayUrl, one!.advertisedUrl])).toEqual([
      ['http://127.0.0.1:8080', 'http://10.201.0.1:8080'],
      ['http://127.0.0.1:8080', 'http://10.201.0.2:8080'],
    ]);
    const rows = [a, b].map((one) => ({ id: one!.gatewayId, url: one!.advertisedUrl, ready: true }));
    for (const { on } of machines) {
      const { gateways, sharedUrls } = await json<Listed>(['gateway', 'list'], on(cluster.at));
      expect(gateways).toHaveLength(2);
      for (const row of rows) expect(gateways).toContainEqual(expect.objectContaining(row));
      expect(sharedUrls).toEqual([]);
      expect(await json(['connection', 'list'], on(cluster.at))).toMatchObject({ total: 0, unreachable: [] });
    }

    const at = machines[0]!.on(cluster.at);
    const drain = ['gateway', 'drain', b!.gatewayId, '--yes'];
    expect(await json(drain, at)).toMatchObject({ url: 'http://10.201.0.2:8080', drained: true });
    expect((await b!.ended).status).toBe(0);
    expect(a!.child.exitCode).toBeNull();
    expect(await json(['gateway', 'list'], at)).toMatchObject({ gateways: [rows[0]] });
  });

  test('the gateway of `up` is known by the URL of its machine, whatever network that is in', {
    timeout: 180_000,
  }, async () => {
    const [machine] = twoMachines();
    const at = machine!.on({});
    const directory = await temporaryDirectory();
    const cluster = await up(directory, at, ['--host', '0.0.0.0']);
    onTestFinished(async () => {
      cluster.child.kill('SIGKILL');
      await cluster.ended;
    });
    expect(cluster.gatewayUrl).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
    const { gateways } = await json<Listed>(['gateway', 'list', ...cluster.at], at);
    expect(gateways).toMatchObject([{ url: cluster.gatewayUrl, ready: true }]);
    expect((await feedctl(['down', ...cluster.at], at)).status).toBe(0);
  });
});

/** Registers the gateway at the URL of another one, as before it had a URL for other machines. */
const register = (cluster: SpawnedCluster, { gatewayId }: Started, url: string) =>
  cluster.sql(`update gateways set url = '${url}' where id = '${gatewayId}'`);

test('a drain that would reach another gateway is refused, and every view names the gateway and the fix', {
  timeout: 180_000,
}, async () => {
  const cluster = await spawnedCluster(FOUNDATIONS[0]);
  const [a, b] = [await gateway(['--port', '0'], cluster.at), await gateway(['--port', '0'], cluster.at)];
  await cluster.worker();
  await register(cluster, b, a.gatewayUrl);
  const why = `gateway ${a.gatewayId} answers at ${a.gatewayUrl}, not gateway ${b.gatewayId}`;

  for (const flag of ['--yes', '--dry-run']) {
    const refused = await cluster.run('gateway', 'drain', b.gatewayId, flag, '--json');
    expect(refused.status).toBe(1);
    expect(JSON.parse(refused.stdout)).toMatchObject({ error: { code: 'GATEWAY_OTHER', message: why } });
  }
  const read = await cluster.run('gateway', 'drain', b.gatewayId, '--yes');
  expect(read).toMatchObject({ status: 1, stdout: '' });
  for (const text of [why, '--advertise-url', 'GATEWAY_OTHER']) expect(read.stderr).toContain(text);
  expect([a.child.exitCode, b.child.exitCode]).toEqual([null, null]);

  const listed = await cluster.json<Listed>('gateway', 'list');
  expect(listed).toMatchObject({
    gateways: [
      { id: a.gatewayId, ready: true, reason: null },
      { id: b.gatewayId, ready: false, reason: why },
    ],
    sharedUrls: [{ url: a.gatewayUrl, gatewayIds: [a.gatewayId, b.gatewayId] }],
  });
  const list = await cluster.run('gateway', 'list');
  expect(list.status).toBe(0);
  expect(list.stdout).toMatch(new RegExp(`${b.gatewayId} .* NOT READY `));
  expect(list.stderr).toContain(`Gateway ${b.gatewayId} is not ready: ${why}.`);
  expect(list.stderr).toMatch(
    new RegExp(`^Warning: .*${a.gatewayId} and ${b.gatewayId}.*\n.*--advertise-url`, 'm'),
  );
  const status = await cluster.json<{ components: { name: string; detail: string }[] }>('status');
  expect(status.components.find(({ name }) => name === 'gateways')!.detail).toContain(`not ready: ${why}`);
  const { checks } = await cluster.json<{ checks: { name: string }[] }>('doctor');
  expect(checks.find(({ name }) => name === 'gateway URLs')).toMatchObject({
    status: 'warning',
    detail: expect.stringContaining(`${a.gatewayId} and ${b.gatewayId}`),
    fix: expect.stringContaining('--advertise-url'),
  });
  const connections = await cluster.run('connection', 'list', '--json');
  expect(connections.status).toBe(3);
  expect(JSON.parse(connections.stdout)).toMatchObject({
    unreachable: [{ gatewayId: b.gatewayId, reason: why }],
  });

  await register(cluster, b, b.gatewayUrl);
  expect(await cluster.json('gateway', 'drain', b.gatewayId, '--yes')).toMatchObject({ drained: true });
  expect((await b.ended).status).toBe(0);
  expect(await cluster.json('gateway', 'list')).toMatchObject({ gateways: [{ id: a.gatewayId }] });
});

test('a gateway registers the URL that it is given, by a flag or a variable, and refuses one that is none', {
  timeout: 180_000,
}, async () => {
  const cluster = await spawnedCluster(FOUNDATIONS[0]);
  const { advertisedUrl } = await gateway(
    ['--port', '0', '--advertise-url', 'http://one.example:8080/'],
    cluster.at,
  );
  expect(advertisedUrl).toBe('http://one.example:8080');
  const env = { ...cluster.at.env, FEEDCTL_ADVERTISE_URL: 'https://two.example/feeds' };
  await gateway(['--port', '0'], { env });
  const urls = await cluster.sql<{ url: string }>('select url from gateways order by started_at');
  expect(urls.map(({ url }) => url)).toEqual(['http://one.example:8080', 'https://two.example/feeds']);
  const refused = await feedctl(['gateway', 'start', '--port', '0', '--json'], {
    env: { ...env, FEEDCTL_ADVERTISE_URL: 'two.example:8080' },
  });
  expect(refused.status).toBe(2);
  expect(JSON.parse(refused.stdout)).toMatchObject({
    error: { code: 'CONFIG_INVALID', message: expect.stringContaining('--advertise-url') },
  });
});
