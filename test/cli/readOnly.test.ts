import { spawnSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
import { readManifests } from '../../src/engine/kubernetes/manifests.ts';
import { json, type Outcome, type Running, start, waitUntil } from '../support/cli.ts';
import { openProxy } from '../support/proxy.ts';
import { freePorts } from '../support/servers.ts';
import { FOUNDATIONS, httpClient, spawnedCluster } from '../support/spawnedCluster.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
/** As the container sees it: Node may be one of the project's packages. */
const NODE = process.execPath.replace(ROOT, '/mnt/');

/**
 * Gives a role what a container of the manifests gives it: 64 MiB of /tmp to write, user 1000, no
 * capability, and a process namespace in which it is the first process. The program is at /mnt, because
 * the machine's own /tmp may hold it.
 */
const CONTAINER = `set -e
mount --make-rprivate /
mount --bind "$FEEDCTL_ROOT" /mnt
mount -t tmpfs -o size=64m,mode=1777 tmpfs /tmp
while read -r _ _ _ _ at _; do
  case $at in /tmp) ;; *) mount -o remount,bind,ro "$at" 2>/dev/null || true ;; esac
done < /proc/self/mountinfo
shift
exec setpriv --reuid=1000 --regid=1000 --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all \\
  "$FEEDCTL_NODE" /mnt/bin/run.js "$@"`;
const UNSHARE = ['--mount', '--pid', '--fork', '--kill-child'];

const able =
  process.getuid?.() === 0 &&
  spawnSync('unshare', [...UNSHARE, 'setpriv', '--reuid=1000', process.execPath, '--version']).status === 0;

interface Container {
  readonly name: string;
  readonly args: string[];
  readonly startupProbe?: { httpGet: { path: string } };
  readonly readinessProbe?: { httpGet: { path: string } };
}

describe.skipIf(!able)('in a container as the manifests have it', async () => {
  const objects = (await readManifests('prod')).map(({ object }) => object);
  const settings = objects.find(
    ({ kind, metadata }) => kind === 'ConfigMap' && metadata.name.startsWith('feedctl-'),
  )!.data as Record<string, string>;
  const pod = (name: string) => {
    const found = objects.find((one) => one.metadata.name === name && /^(Deployment|Job)$/.test(one.kind))!;
    const { spec } = (found.spec as { template: { spec: unknown } }).template;
    return spec as { terminationGracePeriodSeconds: number; containers: [Container] };
  };

  function run(args: readonly string[], env: Record<string, string>): Running {
    const all = { ...settings, HOME: '/tmp', FEEDCTL_ROOT: ROOT, FEEDCTL_NODE: NODE, ...env };
    return start(args, { executable: 'unshare', node: [...UNSHARE, 'sh', '-c', CONTAINER, 'sh'], env: all });
  }

  /** The process in the container, by its number outside. */
  async function processOf({ pid }: Running): Promise<number> {
    return Number((await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')).trim());
  }

  /** The role outlives `unshare`: a process that changes its user no longer ends with its parent. */
  async function kill(role: Running): Promise<void> {
    if (role.child.exitCode === null && role.child.signalCode === null) {
      const pid = await processOf(role).catch(() => 0);
      if (pid > 0) process.kill(pid, 'SIGKILL');
      role.child.kill('SIGKILL');
    }
    await role.ended;
  }

  /** As the kubelet does it: SIGTERM, and when the grace period is over SIGKILL. */
  async function terminate(role: Running, graceSeconds: number): Promise<Outcome> {
    const pid = await processOf(role);
    process.kill(pid, 'SIGTERM');
    const late = setTimeout(() => process.kill(pid, 'SIGKILL'), graceSeconds * 1_000);
    return role.ended.finally(() => clearTimeout(late));
  }

  const asked = async (url: string, path: string) => {
    const response = await fetch(new URL(path, url)).catch(() => undefined);
    return response?.status;
  };

  test('migration, worker and gateway start, work, drain and exit 0', { timeout: 180_000 }, async () => {
    const servers = FOUNDATIONS[1].missing ? FOUNDATIONS[0] : FOUNDATIONS[1];
    const cluster = await spawnedCluster(servers);
    // The database's socket is in a directory that others may not enter.
    const { url } = await openProxy(cluster.url);
    const [metricsPort, port] = await freePorts(2);
    const env = { ...cluster.at.env, FEEDCTL_DATABASE_URL: url, FEEDCTL_METRICS_PORT: String(metricsPort) };
    const argsOf = ({ args }: Container) =>
      args.map((word) => word.replace('$(POD_IP)', '127.0.0.1').replace('8080', String(port)));

    expect(await run(pod('feedctl-migrate').containers[0].args, env).ended).toMatchObject({ status: 0 });
    const roles = await Promise.all(
      (['worker', 'gateway'] as const).map(async (name) => {
        const { containers, terminationGracePeriodSeconds } = pod(`feedctl-${name}`);
        const [container] = containers;
        const role = run(argsOf(container), env);
        onTestFinished(() => kill(role));
        const at = `http://127.0.0.1:${name === 'worker' ? metricsPort : port}`;
        for (const probe of [container.startupProbe!, container.readinessProbe!])
          await waitUntil(async () => (await asked(at, probe.httpGet.path)) === 200);
        return { role, at, grace: terminationGracePeriodSeconds };
      }),
    );
    for (const { role } of roles) {
      const pid = await processOf(role);
      const mounts = (await readFile(`/proc/${pid}/mountinfo`, 'utf8')).trim().split('\n');
      const writable = mounts.map((line) => line.split(' ')).filter(([, , , , , how]) => /^rw/.test(how!));
      const places = writable.map(([, , , , at]) => at!);
      // Devices are the runtime's. The new /tmp hides mounts below the machine's own.
      expect(places.filter((at) => !/^\/(dev|tmp)\//.test(at))).toEqual(['/tmp']);
      const status = await readFile(`/proc/${pid}/status`, 'utf8');
      expect(status).toMatch(/^Uid:\t1000\t1000\t1000\t1000$/m);
      expect(status).toMatch(/^CapEff:\t0+$/m);
      expect(status).toMatch(/^NSpid:\t\d+\t1$/m);
    }

    const [worker, gateway] = roles as [(typeof roles)[0], (typeof roles)[0]];
    for (const id of ['1', '2']) await json(['user', 'create', `user ${id}`, '--id', id], cluster.at);
    await json(['follow', 'create', '2', '1'], cluster.at);
    const watch = start(['feed', 'watch', '2', '--json', '--gateway-url', gateway.at], cluster.at);
    onTestFinished(async () => {
      watch.child.kill('SIGKILL');
      await watch.ended;
    });
    const author = httpClient(gateway.at, await cluster.token(1));
    await waitUntil(async () => {
      await author.post('hello');
      return watch.stdout().includes('hello');
    });
    // In the middle of work, with a socket open.
    await Promise.all(Array.from({ length: 200 }, (_, i) => author.post(`post ${i}`)));
    const [drained, closed] = await Promise.all(roles.map(({ role, grace }) => terminate(role, grace)));
    expect(drained, drained!.stderr).toMatchObject({ status: 0 });
    expect(closed, closed!.stderr).toMatchObject({ status: 0 });
    expect(await asked(worker.at, '/healthz')).toBeUndefined();
    // What was left is whoever comes next's.
    await cluster.worker();
    await waitUntil(async () => (await cluster.run('feed', 'verify', '--all', '--json')).status === 0);
  });
});
