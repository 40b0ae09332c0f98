import { writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Plan } from '../../src/engine/kubernetes/plan.ts';
import { feedctl, type Outcome, temporaryDirectory } from '../support/cli.ts';
import { type KubernetesFake, refusal, startKubernetesFake } from '../support/kubernetesFake.ts';

const CONFIG = 'apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: one\n';
const CONFIGS = '/api/v1/namespaces/feeds/configmaps';

let fake: KubernetesFake;
let env: Record<string, string>;
let directory: string;
beforeAll(async () => {
  directory = await temporaryDirectory();
  fake = await startKubernetesFake();
  env = { KUBECONFIG: await fake.kubeconfig(directory) };
  const resources = [{ name: 'configmaps', kind: 'ConfigMap', namespaced: true }];
  fake.answer('/api/v1', { status: 200, body: { resources } });
  fake.answer('/api/v1/namespaces/feeds', { status: 200, body: { kind: 'Namespace' } });
});
afterAll(() => fake.close());

/** Runs feedctl with `text` on its stdin. */
async function piped(text: string, ...args: string[]): Promise<Outcome> {
  const file = join(directory, 'stdin');
  await writeFile(file, text);
  const script = 'file=$1; shift; exec "$@" < "$file"';
  return feedctl(args, { env, executable: 'sh', node: ['-c', script, 'sh', file, process.execPath] });
}

const failure = ({ stdout, status }: Outcome) => ({ status, ...JSON.parse(stdout).error });
const missing = refusal(404, 'NotFound', 'not there');
const applied = () =>
  fake.seen
    .filter(({ method, query }) => method === 'PATCH' && query.dryRun === undefined)
    .map(({ path }) => path);

test('a plan reads rendered manifests from stdin, every document of them', async () => {
  for (const name of ['one', 'two']) fake.answer(`${CONFIGS}/${name}`, missing, { status: 200 });
  const text = `${CONFIG}---\n${CONFIG.replace('one', 'two')}`;
  const { stdout } = await piped(text, 'cluster', 'plan', '-', '--json');
  expect((JSON.parse(stdout) as Plan).objects).toMatchObject([
    { name: 'one', action: 'added', source: 'stdin:1' },
    { name: 'two', action: 'added', source: 'stdin:6' },
  ]);
});

test('an apply of stdin needs --yes, as stdin cannot answer', async () => {
  fake.answer(`${CONFIGS}/one`, missing, { status: 200 });
  const asked = await piped(CONFIG, 'cluster', 'apply', '-');
  expect(asked).toMatchObject({ status: 2, stderr: expect.stringContaining('CONFIRMATION_REQUIRED') });
  expect(asked.stderr).toContain('--yes');
  expect(asked.stderr).toContain('+ ConfigMap/one');
  expect(applied()).toEqual([]);
  fake.answer(`${CONFIGS}/one`, missing, { status: 200 });
  expect(await piped(CONFIG, 'cluster', 'apply', '-', '--yes')).toMatchObject({ status: 0 });
  expect(applied()).toEqual([`${CONFIGS}/one`]);
});

test('manifests that cannot be read are refused with their line before the server is asked', async () => {
  const asked = fake.seen.length;
  const cases = [
    ['', 'stdin: there is no object in it'],
    [`${CONFIG}---\n${CONFIG}broken: [\n`, 'stdin:1'],
    [`${CONFIG}---\napiVersion: v1\nmetadata: { name: two }\n`, 'stdin:6: kind is missing'],
    [`${CONFIG}---\napiVersion: v1\nkind: ConfigMap\n`, 'stdin:6: metadata.name is missing'],
  ] as const;
  for (const [text, message] of cases)
    expect(failure(await piped(text, 'cluster', 'apply', '-', '--yes', '--json')), message).toMatchObject({
      status: 2,
      code: 'MANIFEST_INVALID',
      message: expect.stringContaining(message),
    });
  const overlay = failure(await piped('', 'cluster', 'apply', directory, '--yes', '--json'));
  expect(overlay).toMatchObject({ status: 2, code: 'MANIFEST_INVALID' });
  // The path is relative where that is shorter.
  expect(overlay.suggestions[0]).toContain(`${basename(directory)} | feedctl cluster apply -`);
  expect(fake.seen.length).toBe(asked);
});
