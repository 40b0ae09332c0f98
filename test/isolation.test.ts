import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, writeFile } from 'node:fs/promises';
import { homedir, userInfo } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { loadConfig } from '../src/engine/config/config.ts';
import { listContexts } from '../src/engine/config/contexts.ts';
import { json, temporaryDirectory } from './support/cli.ts';
import { isPersonal } from './support/isolation.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const VITEST = join(ROOT, 'node_modules/vitest/vitest.mjs');
const URL_OF_PERSON = 'postgres://person:secret@127.0.0.1:1/production';

test('a test and its commands know no context, setting or secret of the person who runs it', async () => {
  expect(Object.keys(process.env).filter(isPersonal)).toEqual([]);
  expect(homedir()).not.toBe(userInfo().homedir);
  expect(await loadConfig({})).toMatchObject({ context: 'local', embedded: true, production: false });
  expect(await listContexts(process.env)).toMatchObject([{ name: 'local' }]);
  expect(await json(['context', 'list'])).toMatchObject({ contexts: [{ name: 'local', current: true }] });
});

test.skipIf(process.env.FEEDCTL_TEST_PERSON)(
  'also for a person who has all of them',
  {
    timeout: 180_000,
  },
  async () => {
    const home = await temporaryDirectory();
    await mkdir(join(home, '.config', 'feedctl'), { recursive: true });
    const contexts = {
      current: 'prod',
      contexts: { prod: { databaseUrl: URL_OF_PERSON, production: true } },
    };
    await writeFile(join(home, '.config', 'feedctl', 'contexts.json'), JSON.stringify(contexts));
    const person = {
      HOME: home,
      XDG_CONFIG_HOME: join(home, '.config'),
      FEEDCTL_CONTEXT: 'prod',
      FEEDCTL_DATABASE_URL: URL_OF_PERSON,
      FEEDCTL_BROKER_URL: 'amqp://person:secret@127.0.0.1:1',
      FEEDCTL_CACHE_URL: 'redis://127.0.0.1:1',
      FEEDCTL_PRODUCTION: 'true',
      PGPASSWORD: 'secret',
      PGHOST: '127.0.0.1',
      KUBECONFIG: join(home, 'kubeconfig'),
      FEEDCTL_TEST_PERSON: '1',
    };
    const args = [VITEST, 'run', 'test/isolation.test.ts', '--reporter=default', '--no-color'];
    const kept = Object.entries(process.env).filter(([name]) => !/^(VITEST|TEST$|NODE_ENV$)/.test(name));
    const run = spawn(process.execPath, args, { cwd: ROOT, env: { ...Object.fromEntries(kept), ...person } });
    let output = '';
    run.stdout.on('data', (chunk) => {
      output += chunk;
    });
    run.stderr.on('data', (chunk) => {
      output += chunk;
    });
    const [status] = await once(run, 'close');
    expect(status, output).toBe(0);
    expect(output).toContain('1 passed');
  },
);
