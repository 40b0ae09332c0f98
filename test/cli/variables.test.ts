import { expect, test } from 'vitest';
import { feedctl, json, temporaryDirectory } from '../support/cli.ts';

const warnings = async (env: Record<string, string>, ...args: string[]) => {
  const { stderr } = await feedctl(args.length > 0 ? args : ['context', 'list'], { env });
  return stderr.split('\n').filter((line) => line.startsWith('Warning: '));
};

test('a variable without effect is named once, with the known name that is most like it', async () => {
  for (const [name, meant] of [
    ['FEEDCTL_DATABSE_URL', 'FEEDCTL_DATABASE_URL'],
    ['FEEDCTL_REDIS_URL', ''],
    ['FEEDCTL_cache_url', 'FEEDCTL_CACHE_URL'],
    ['FEEDCTL_METRIC_PORT', 'FEEDCTL_METRICS_PORT'],
    ['FEEDCTL_LOGLEVEL', 'FEEDCTL_LOG_LEVEL'],
    ['FEEDCTL_TRUSTED_PROXIES', 'FEEDCTL_TRUSTED_PROXY'],
  ] as const) {
    const [warning, ...more] = await warnings({ [name]: 'secret' });
    expect(warning).toContain(`${name} has no effect`);
    if (meant) expect(warning).toContain(`Meant is perhaps ${meant}.`);
    expect(warning).not.toContain('secret');
    expect(more).toEqual([]);
  }
  const wrong = { FEEDCTL_PRODUCTIN: 'true' };
  expect(await warnings(wrong, 'status', '--json', '--data-dir', '/nonexistent')).toHaveLength(1);
  expect(await json(['context', 'list'], { env: wrong })).toMatchObject({ contexts: [{ name: 'local' }] });
});

test('variables with an effect are not named, nor those of contexts, services and tests', async () => {
  const directory = await temporaryDirectory();
  const at = { XDG_CONFIG_HOME: directory };
  await json(['context', 'add', 'prod', '--database-url-env', 'FEEDCTL_PROD_URL'], { env: at });
  const known = {
    FEEDCTL_DATABASE_URL: 'postgres://feeds@127.0.0.1:1/feeds',
    FEEDCTL_LOG_LEVEL: 'info',
    FEEDCTL_TRUST_TRACEPARENT: 'false',
    FEEDCTL_USER_LIMIT: '1',
    FEEDCTL_TEST_REDIS_URL: 'redis://127.0.0.1',
    FEEDCTL_PROD_URL: 'postgres://feeds@127.0.0.1:1/feeds',
    FEEDCTL_GATEWAY_SERVICE_HOST: '10.0.0.1',
    FEEDCTL_GATEWAY_SERVICE_PORT_HTTP: '80',
    FEEDCTL_GATEWAY_PORT: 'tcp://10.0.0.1:80',
    FEEDCTL_GATEWAY_PORT_80_TCP_ADDR: '10.0.0.1',
  };
  expect(await warnings({ ...at, ...known })).toEqual([]);
  // The completion of a word prints into a command line.
  expect(await warnings({ FEEDCTL_DATABSE_URL: 'x' }, 'complete', '--', 'feed', '')).toEqual([]);
});
