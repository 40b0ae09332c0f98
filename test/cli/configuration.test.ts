import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { feedctl, json, start, temporaryDirectory, up, waitUntil } from '../support/cli.ts';
import { FOUNDATIONS, httpClient, spawnedCluster } from '../support/spawnedCluster.ts';

/** Contexts for `clusters`, whose URLs come from a command that counts how often it runs. */
async function contextsOf(clusters: Record<string, string>) {
  const directory = await temporaryDirectory();
  const env = { XDG_CONFIG_HOME: directory };
  const reads = join(directory, 'reads');
  await writeFile(reads, '');
  for (const [name, url] of Object.entries(clusters)) {
    const file = join(directory, name);
    await writeFile(file, url);
    const command = `echo ${name} >> '${reads}'; cat '${file}'`;
    await json(['context', 'add', name, '--database-url-command', command], { env });
  }
  return {
    at: { env },
    use: (name: string) => json(['context', 'use', name], { env }),
    /** Contexts whose URL was read since the last call. */
    async reads(): Promise<string[]> {
      const names = (await readFile(reads, 'utf8')).split('\n').filter(Boolean);
      await writeFile(reads, '');
      return names;
    },
  };
}

test('a watched feed stays that of its cluster when another context is selected meanwhile', {
  timeout: 180_000,
}, async () => {
  const [mine, other] = [await spawnedCluster(FOUNDATIONS[0]), await spawnedCluster(FOUNDATIONS[0])];
  for (const cluster of [mine, other]) {
    await cluster.json('user', 'create', '--id', '1');
    await cluster.json('user', 'create', '--id', '2');
    await cluster.json('follow', 'create', '2', '1');
  }
  await mine.worker();
  await other.gateway();
  const contexts = await contextsOf({ mine: mine.url, other: other.url });
  await contexts.use('mine');
  const gateway = await mine.gateway();
  const watch = start(['feed', 'watch', '2', '--count', '1', '--json'], contexts.at);
  onTestFinished(async () => {
    watch.child.kill('SIGKILL');
    await watch.ended;
  });
  await waitUntil(() => watch.stderr().includes(`at ${gateway.gatewayUrl}`));
  await contexts.use('other');
  const next = await mine.gateway();
  await mine.json('gateway', 'drain', gateway.gatewayId, '--yes');
  await waitUntil(() => watch.stderr().includes(`at ${next.gatewayUrl}`));
  await httpClient(next.gatewayUrl, await mine.token(1)).post('still here');
  const { stdout, stderr, status } = await watch.ended;
  expect(status, stderr).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ postText: 'still here' });
  expect(await contexts.reads()).toEqual(['mine']);
});

test('an operation is resumed with the configuration that found it', { timeout: 180_000 }, async () => {
  const cluster = await spawnedCluster(FOUNDATIONS[0]);
  const contexts = await contextsOf({ mine: cluster.url });
  await cluster.json('user', 'create', '--id', '1');
  await cluster.json('post', 'create', '1', 'held up');
  const victim = start(['celebrity', 'mark', '1', '--json'], cluster.at);
  const running = `select id from operations where state = 'running' and progress->'steps' ? 'pull'`;
  await waitUntil(async () => (await cluster.sql(running)).length === 1);
  victim.child.kill('SIGKILL');
  await victim.ended;
  const [operation] = await cluster.sql<{ id: number }>('select id from operations');
  const interrupted = async () =>
    (await cluster.json<{ state: string }>('operation', 'show', `${operation!.id}`)).state === 'interrupted';
  await waitUntil(interrupted);
  await cluster.worker();
  const resumed = await json(['operation', 'resume', `${operation!.id}`, '--context', 'mine'], contexts.at);
  expect(resumed).toMatchObject({ changed: true });
  expect(await contexts.reads()).toEqual(['mine']);
});

test('down stops no embedded cluster while another cluster is in use, unless it is named', async () => {
  const data = await temporaryDirectory();
  const contexts = await contextsOf({ prod: 'postgres://feeds@127.0.0.1:1/feeds' });
  const cluster = await up(data);
  const env = { ...contexts.at.env, FEEDCTL_DATA_DIR: data };
  const refusal = async (args: string[], more: Record<string, string> = {}) => {
    const outcome = await feedctl(['down', ...args, '--json'], { env: { ...env, ...more } });
    expect(outcome.status, outcome.stdout).toBe(2);
    return (JSON.parse(outcome.stdout) as { error: { code: string; message: string } }).error;
  };
  const url = 'postgres://feeds@127.0.0.1:1/feeds';
  expect(await refusal([], { FEEDCTL_DATABASE_URL: url })).toMatchObject({
    code: 'USAGE',
    message: expect.stringContaining('FEEDCTL_DATABASE_URL names a database'),
  });
  expect((await refusal(['--data-dir', data, '--database-url', url])).message).toContain('--database-url');
  await contexts.use('prod');
  expect((await refusal([])).message).toContain('the context prod names a database');
  expect(cluster.child.exitCode).toBeNull();
  expect(await json(['down', '--data-dir', data], { env })).toEqual({ stopped: true, dataDir: data });
  await cluster.ended;
});
