import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { BINARY, feedctl, json, testRole } from '../support/cli.ts';
import { openProxy } from '../support/proxy.ts';
import { FOUNDATIONS, spawnedCluster } from '../support/spawnedCluster.ts';

/** A command line that runs feedctl as a user id without a name, with no more variables than `env`. */
function asNameless(env: Record<string, string>): { executable: string; node: string[] } {
  const user = ['setpriv', '--reuid=12345', '--regid=12345', '--clear-groups'];
  const path = process.env.PATH ?? '';
  const variables = Object.entries({ PATH: path, ...env }).map((pair) => pair.join('='));
  return { executable: 'env', node: ['-i', ...variables, ...user, process.execPath] };
}

const able =
  process.getuid?.() === 0 &&
  spawnSync('id', ['-un', '12345']).status !== 0 &&
  spawnSync('env', [...asNameless({ HOME: '/tmp' }).node, '--check', BINARY]).status === 0;

test.skipIf(!able)('a user id without a name runs commands and roles', async () => {
  for (const [env, home] of [
    [{ HOME: '/tmp' }, '/tmp'],
    [{ HOME: '' }, ''],
    [{ SHELL: '/bin/sh' }, ''],
  ] as const) {
    const outcome = await feedctl(['status', '--json'], asNameless(env));
    expect(JSON.parse(outcome.stdout), outcome.stderr).toMatchObject({
      error: {
        code: 'CLUSTER_NOT_RUNNING',
        message: expect.stringContaining(`no cluster runs in ${home}/.local/share/feedctl`),
      },
    });
    expect(await feedctl(['context', 'list'], asNameless(env))).toMatchObject({ status: 0 });
  }
  const cluster = await spawnedCluster(FOUNDATIONS[0]);
  // The database's socket is in a directory that others may not enter.
  const { url } = await openProxy(cluster.url);
  const nameless = asNameless({ HOME: '/', FEEDCTL_DATABASE_URL: url });
  for (const id of ['1', '2']) await json(['user', 'create', '--id', id], nameless);
  await testRole(['worker', 'start'], nameless);
  await testRole(['gateway', 'start', '--port', '0'], nameless);
  await json(['feed', 'rebuild', '--all'], nameless);
  const { operations } = await json<{ operations: { who: string }[] }>(['operation', 'list'], nameless);
  expect(operations[0]!.who).toMatch(/^uid-12345@/);
});
