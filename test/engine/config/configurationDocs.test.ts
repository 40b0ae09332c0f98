import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { configurationPage } from '../../../scripts/configuration.ts';
import { settingsOf } from '../../../src/cli/baseCommand.ts';
import { loadConfig } from '../../../src/engine/config/config.ts';
import { addContext } from '../../../src/engine/config/contexts.ts';
import { SETTINGS, type SettingName } from '../../../src/engine/config/settings.ts';

const root = new URL('../../../', import.meta.url).pathname;
const page = readFileSync(join(root, 'docs/reference/configuration.md'), 'utf8');
const env = { XDG_CONFIG_HOME: '/nonexistent', XDG_DATA_HOME: '/data' };
const names = Object.keys(SETTINGS) as SettingName[];

function sources(directory: string): string {
  return readdirSync(join(root, directory), { recursive: true, encoding: 'utf8' })
    .filter((file) => /\.(tsx?|js)$/.test(file))
    .map((file) => readFileSync(join(root, directory, file), 'utf8'))
    .join('\n');
}

const VARIABLES = [
  /\benv\.([A-Z][A-Z0-9_]*)/g,
  /\benv\['([A-Z][A-Z0-9_]*)'\]/g,
  /\b((?:FEEDCTL|OTEL|XDG)_[A-Z0-9_]*|KUBECONFIG)\b/g,
];

test('docs/reference/configuration.md is generated from the code (npm run docs)', async () => {
  expect(page).toBe(await configurationPage());
});

test('every environment variable that the code reads is on the page', () => {
  const code = sources('src') + sources('bin');
  const found = new Set(VARIABLES.flatMap((pattern) => [...code.matchAll(pattern)].map(([, name]) => name!)));
  // A template completes the name of these: `OTEL_EXPORTER_OTLP_${…}`.
  for (const [, end] of code.matchAll(/\botlpName\(env, '([A-Z_]+)'\)/g))
    found.add(`OTEL_EXPORTER_OTLP_${end}`);
  expect(found).toContain('FEEDCTL_DATABASE_URL');
  expect(found).toContain('OTEL_EXPORTER_OTLP_CLIENT_KEY');
  const missing = [...found].filter((name) => !page.includes(name.endsWith('_') ? name : `\`${name}\``));
  expect(missing).toEqual([]);
});

test('every variable of feedctl on the page is read by the code', () => {
  const code = sources('src') + sources('bin');
  // The code makes the name of a file's variable from that of its setting.
  for (const [name] of page.matchAll(/FEEDCTL_[A-Z_]+/g)) expect(code).toContain(name.replace(/_FILE$/, ''));
});

test('commands, contexts and the environment take each setting as the page says', async () => {
  const values: Record<SettingName, string> = {
    dataDir: '/elsewhere',
    databaseUrl: 'postgres://feeds@db/feeds',
    store: 'postgres',
    databaseDisk: '500GiB',
    brokerUrl: 'amqp://broker',
    brokerManagementUrl: 'http://broker:15672',
    cacheUrl: 'redis://cache',
    gatewayUrl: 'http://gateway',
    kubeContext: 'kind',
    namespace: 'feeds',
    production: 'true',
  };
  const flags = Object.fromEntries(
    Object.entries<{ flag?: string; variable: string }>(SETTINGS).flatMap(([name, { flag }]) =>
      flag ? [[flag, name]] : [],
    ),
  );
  const { context, ...settings } = settingsOf({ context: 'one', ...flags });
  expect(context).toBe('one');
  expect(settings).toEqual(Object.fromEntries(Object.values(flags).map((name) => [name, name])));
  for (const name of names) {
    const value = values[name];
    const config = await loadConfig({}, { ...env, [SETTINGS[name].variable]: value });
    expect([String(config[name]), config.sources[name]], name).toEqual([value, 'environment']);
    await addContext(env, 'one', { [name]: value }, { dryRun: true });
    const from = addContext(env, 'one', { [`${name}From`]: { env: 'NAME' } }, { dryRun: true });
    if (SETTINGS[name].secret) await from;
    else await expect(from, name).rejects.toMatchObject({ code: 'CONFIG_INVALID' });
  }
});

test('the defaults are those of the page', async () => {
  const { dataDir, production } = await loadConfig({}, env);
  expect(dataDir).toBe(process.getuid?.() === 0 ? '/var/lib/feedctl' : '/data/feedctl');
  expect(SETTINGS.production.fallback).toBe(`\`${production}\``);
});

test('no line is longer than 120 columns', () => {
  expect(page.split('\n').filter((line) => line.length > 120)).toEqual([]);
});
