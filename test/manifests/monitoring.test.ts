import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { openMetrics } from '../../src/engine/telemetry/metrics.ts';
import { PROMTOOL } from '../support/prometheus.ts';
import { findServer } from '../support/server.ts';

const installed = await findServer('prometheus');
const ALERTS = new URL('alerts.yaml', import.meta.url);
const read = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8');

/** The rules as Prometheus reads them: the content of the operator's resource. */
const rules = read('manifests/components/monitoring/prometheusrule.yaml')
  .replace(/^[\s\S]*?^spec:\n/m, '')
  .replaceAll(/^ {2}/gm, '');
const alerts = [...rules.matchAll(/^ *- alert: (\w+)$/gm)].map(([, name]) => name!);

interface Panel {
  readonly title: string;
  readonly targets?: readonly { readonly expr: string }[];
}
const dashboard = JSON.parse(read('manifests/components/monitoring/dashboard.json')) as { panels: Panel[] };
const expressions = dashboard.panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));

/** Creates a directory with `rules.yaml` that exists until the test ends. */
async function withRules(text: string): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'feedctl-rules-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  await writeFile(join(directory, 'rules.yaml'), text);
  return directory;
}

const promtool = (...args: string[]) => execFileSync(PROMTOOL, args, { encoding: 'utf8' });

/** Returns the metrics of an expression, of feedctl and of Node.js. */
const metricsOf = (expression: string): string[] =>
  expression.match(/\b(?:feedctl|process|nodejs)_\w+/g) ?? [];

async function exposed(): Promise<Set<string>> {
  const samples = (await (await openMetrics()).text()).matchAll(/^# TYPE (\w+) (\w+)$/gm);
  return new Set(
    [...samples].flatMap(([, name, type]) =>
      type === 'histogram' ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name!],
    ),
  );
}

test.skipIf(!installed)(
  'the rules are rules, and each alert fires where it should and only there',
  async () => {
    const directory = await withRules(rules);
    expect(promtool('check', 'rules', join(directory, 'rules.yaml'))).toContain(
      `${alerts.length} rules found`,
    );
    await cp(ALERTS, join(directory, 'alerts.yaml'));
    expect(promtool('test', 'rules', join(directory, 'alerts.yaml'))).toContain('SUCCESS');
    const tested = readFileSync(ALERTS, 'utf8').matchAll(/value: |labels: '\{alertname="(\w+)"/g);
    expect(new Set([...tested].flatMap(([, name]) => name ?? []))).toEqual(new Set(alerts));
  },
);

test('each alert has a runbook, which names only commands that there are', () => {
  const page = read('docs/guides/runbooks.md');
  expect([...page.matchAll(/^## (\w+)$/gm)].map(([, name]) => name)).toEqual(alerts);
  const runbooks = [...rules.matchAll(/^ *runbook: (.*)$/gm)].map(([, runbook]) => runbook);
  expect(runbooks).toEqual(alerts.map((name) => `docs/guides/runbooks.md#${name.toLowerCase()}`));
  const commands = read('docs/cli/README.md');
  for (const [, command] of page.matchAll(/`feedctl ([a-z]+(?: [a-z]+)?)/g))
    expect(commands).toMatch(
      new RegExp(`\`feedctl ${command!.split(' ')[0]}( ${command!.split(' ')[1]})?\``),
    );
});

test('rules and dashboard ask for metrics that there are', async () => {
  const names = await exposed();
  const ruled = [...rules.matchAll(/expr: \|-\n((?: {8}.*\n)+)/g)].map(String);
  expect(ruled).toHaveLength(alerts.length);
  expect(expressions.length).toBeGreaterThan(30);
  for (const expression of [...expressions, ...ruled]) {
    expect(metricsOf(expression), expression).not.toEqual([]);
    for (const name of metricsOf(expression)) expect(names, expression).toContain(name);
  }
});

test('what is documented is on the dashboard, or asked for by a rule', async () => {
  const asked = metricsOf([...expressions, rules].join('\n')).map((name) =>
    name.replace(/_(bucket|sum|count)$/, ''),
  );
  const ours = [...(await exposed())].filter((name) => name.startsWith('feedctl_'));
  for (const name of ours) expect(asked).toContain(name.replace(/_(bucket|sum|count)$/, ''));
});

test.skipIf(!installed)('every query of the dashboard is PromQL', async () => {
  const queries = expressions.map((expr) =>
    expr.replaceAll('$__rate_interval', '1m').replaceAll('$job', '.*').replaceAll('$namespace', '.*'),
  );
  const recorded = queries.map((expr, i) => ({ record: `query:${i}`, expr }));
  const directory = await withRules(JSON.stringify({ groups: [{ name: 'dashboard', rules: recorded }] }));
  expect(promtool('check', 'rules', join(directory, 'rules.yaml'))).toContain(
    `${queries.length} rules found`,
  );
});
