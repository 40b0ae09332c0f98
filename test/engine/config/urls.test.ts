import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { loadConfig } from '../../../src/engine/config/config.ts';
import { rejection } from '../../support/codes.ts';

const env = { XDG_CONFIG_HOME: '/nonexistent', XDG_DATA_HOME: '/data' };

test.each([
  ['FEEDCTL_DATABASE_URL', 'postgres://feeds:hun/ter2@db.example/feeds', '/', '%2F'],
  ['FEEDCTL_DATABASE_URL', 'postgres://feeds:hunter2#x@db.example/feeds', '#', '%23'],
  ['FEEDCTL_DATABASE_URL', 'postgres://feeds:12?hunter2@db.example:5432/feeds', '?', '%3F'],
  ['FEEDCTL_DATABASE_URL', 'postgres://feeds:12/34hunter2@db.example/feeds', '/', '%2F'],
  ['FEEDCTL_DATABASE_URL', 'postgres://feeds:100%hunter2@db.example/feeds', '%', '%25'],
  ['FEEDCTL_DATABASE_URL', 'postgres://feeds:hunter2#@db.example/feeds?sslmode=require', '#', '%23'],
  ['FEEDCTL_BROKER_URL', 'amqp://a.example, amqps://feeds:hunter2/@b.example', '/', '%2F'],
  ['FEEDCTL_BROKER_MANAGEMENT_URL', 'http://feeds:hunter2?@b.example:15672', '?', '%3F'],
  ['FEEDCTL_CACHE_URL', 'redis://:hunter2/+a=@cache.example:6379/0', '/', '%2F'],
  ['FEEDCTL_CACHE_URL', 'redis+sentinel://:hunter2/+a=@s1.example:26379,s2.example/feeds', '/', '%2F'],
  ['FEEDCTL_GATEWAY_URL', 'http://feeds:hunter2#@gateway.example', '#', '%23'],
])(
  '%s: %s names the character to encode, and shows no password',
  async (variable, url, character, encoded) => {
    const refused = await rejection(loadConfig({}, { ...env, [variable]: url }));
    expect(refused).toMatchObject({ code: 'CONFIG_INVALID' });
    expect(refused.message).toContain(`with the character ${character}: write it as ${encoded}`);
    expect(refused.message).toContain(`${variable} has`);
    expect(refused.message).not.toContain('hunter2');
  },
);

test('an unencoded comma in a password of a broker is named', async () => {
  const url = 'amqp://feeds:hunter,2@broker.example';
  const refused = await rejection(loadConfig({}, { ...env, FEEDCTL_BROKER_URL: url }));
  expect(refused.message).toContain('a comma in a password: %2C');
});

test.each([
  ['FEEDCTL_DATABASE_URL', 'postgres://feeds:p%2Fss%23@db.example:5432/feeds?options=-c%20a=b'],
  ['FEEDCTL_DATABASE_URL', 'postgres://feeds:p@ss@db.example/feeds'],
  ['FEEDCTL_DATABASE_URL', 'postgres://feeds@db.example/a@b'],
  ['FEEDCTL_DATABASE_URL', 'postgres://db.example:5432/feeds?application_name=a@b'],
  ['FEEDCTL_DATABASE_URL', 'postgres:///feeds?host=/var/run/postgresql&user=a@b'],
  ['FEEDCTL_DATABASE_URL', 'postgres://[::1]:5432/feeds?user=a@b'],
  ['FEEDCTL_BROKER_URL', 'amqp://broker.example:5672/feeds@prod,amqp://user:pass@other.example'],
  ['FEEDCTL_CACHE_URL', 'redis://:pass:word@cache.example:6379/0'],
  ['FEEDCTL_CACHE_URL', 'redis+sentinel://s1.example:26379,s2.example:26379/feeds?sentinel_username=a@b'],
  ['FEEDCTL_CACHE_URL', 'rediss+cluster://:pass@n1.example:7000,n2.example:7000'],
  ['FEEDCTL_GATEWAY_URL', 'http://gateway.example:8080/feeds@home'],
])('%s: %s is taken', async (variable, url) => {
  expect(Object.values(await loadConfig({}, { ...env, [variable]: url }))).toContain(url);
});

test.each([
  ['redis+sentinel://s1.example:26379,s2.example:26379/feeds', false],
  ['redis+sentinel://feeds:hunter2@s1.example:26379,s2.example:26379/feeds', true],
  ['redis+sentinel://s1.example:26379/feeds?sentinel_password=hunter2', true],
  ['redis+cluster://n1.example:7000,n2.example:7000', false],
])('%s as a flag is refused if it has a password', async (cacheUrl, isSecret) => {
  const loaded = loadConfig({ cacheUrl }, env);
  if (isSecret) expect(await rejection(loaded)).toMatchObject({ code: 'SECRET_IN_FLAG' });
  else expect(await loaded).toMatchObject({ cacheUrl });
});

test('a file of sentinels that names another group later is not followed', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'feedctl-urls-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  const file = join(directory, 'cache-url');
  const url = (group: string, password: string) => `redis+sentinel://:${password}@s1,s2/${group}`;
  await writeFile(file, url('feeds', 'one'));
  const { sourced } = await loadConfig({}, { ...env, FEEDCTL_CACHE_URL_FILE: file });
  const problems: string[] = [];
  sourced!.cacheUrl!.follow((reason) => problems.push(reason));
  await writeFile(file, url('feeds', 'two'));
  expect(await sourced!.cacheUrl!.afterRefusal(url('feeds', 'one'))).toBe(url('feeds', 'two'));
  await writeFile(file, url('others', 'two'));
  expect(await sourced!.cacheUrl!.afterRefusal(url('feeds', 'two'))).toBe(url('feeds', 'two'));
  expect(problems).toEqual([expect.stringContaining('the source now names another database')]);
});
