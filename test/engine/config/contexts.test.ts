import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { loadConfig } from '../../../src/engine/config/config.ts';
import { contextFilePath, listContexts, readContext } from '../../../src/engine/config/contexts.ts';
import { rejection } from '../../support/codes.ts';

/** Writes a context file and returns the environment that names it. */
async function withFile(content: unknown): Promise<NodeJS.ProcessEnv> {
  const directory = await mkdtemp(join(tmpdir(), 'feedctl-contexts-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const env = { XDG_CONFIG_HOME: directory, XDG_DATA_HOME: directory };
  await mkdir(dirname(contextFilePath(env)), { recursive: true });
  await writeFile(contextFilePath(env), JSON.stringify(content));
  return env;
}

test('a file that holds no contexts is refused with the reason', async () => {
  for (const [content, why] of [
    [[], 'must hold a JSON object'],
    [{ current: 7 }, 'current must be text'],
    [{ contexts: [] }, 'contexts must be a JSON object'],
  ] as const) {
    const refused = await rejection(listContexts(await withFile(content)));
    expect(refused).toMatchObject({ code: 'CONFIG_INVALID', message: expect.stringContaining(why) });
  }
});

test.each([
  ['no object', 'feeds', 'must be a JSON object'],
  ['an unknown setting', { databseUrl: 'postgres://db' }, 'databseUrl: unknown setting'],
  ['a setting of the prototype', { constructor: 'x' }, 'constructor: unknown setting'],
  ['a number', { databaseUrl: 7 }, 'databaseUrl: must be text that is not empty'],
  ['empty text', { databaseUrl: '' }, 'databaseUrl: must be text that is not empty'],
  ['null', { cacheUrl: null }, 'cacheUrl: must be text that is not empty'],
  ['a source of no secret', { storeFrom: { env: 'STORE' } }, 'storeFrom: unknown setting'],
  ['two sources', { cacheUrlFrom: { env: 'A', file: 'b' } }, 'cacheUrlFrom: must be one of {env}, {file}'],
  ['no source', { cacheUrlFrom: {} }, 'cacheUrlFrom: must be one of {env}, {file} and {command}'],
  ['another source', { cacheUrlFrom: { vault: 'a' } }, 'cacheUrlFrom: must be one of {env}, {file}'],
  ['an empty source', { cacheUrlFrom: { env: '' } }, 'cacheUrlFrom: env must be text that is not empty'],
  ['no boolean', { production: 1 }, 'production: must be true or false'],
])('a context with %s is refused and named', async (_, context, why) => {
  const env = await withFile({ contexts: { odd: context, fine: { namespace: 'feeds' } } });
  const refused = await rejection(readContext(env, 'odd'));
  expect(refused).toMatchObject({ code: 'CONFIG_INVALID', message: expect.stringContaining(why) });
  expect(refused.message).toContain('context odd in ');
  expect(await readContext(env, 'fine')).toEqual({ name: 'fine', context: { namespace: 'feeds' } });
});

test.each([
  ['FEEDCTL_DATABASE_URL', 'mysql://db', 'must start with postgres:// or postgresql://'],
  ['FEEDCTL_STORE', 'mongo', 'must be citus or postgres'],
  ['FEEDCTL_BROKER_URL', 'amqp://a, http://b', 'must be amqp:// or amqps:// URLs'],
  ['FEEDCTL_CACHE_URL', 'memcached://c', 'must start with redis:// or rediss://'],
  ['FEEDCTL_NAMESPACE', 'Feeds_', 'must be a namespace of Kubernetes'],
  ['FEEDCTL_PRODUCTION', 'maybe', 'must be true or false'],
])('%s with another value is refused', async (variable, value, why) => {
  const refused = await rejection(loadConfig({}, { ...(await withFile({})), [variable]: value }));
  expect(refused).toMatchObject({ code: 'CONFIG_INVALID' });
  expect(refused.message).toContain(`${variable} ${why}`);
});

test('production is a boolean, or a word for one', async () => {
  for (const [value, production] of [
    [true, true],
    ['Yes', true],
    ['on', true],
    [false, false],
    ['0', false],
  ] as const) {
    const env = await withFile({ current: 'one', contexts: { one: { production: value } } });
    expect(await loadConfig({}, env)).toMatchObject({ production, sources: { production: 'context' } });
  }
});
