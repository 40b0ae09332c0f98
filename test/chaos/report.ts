import { mkdir, writeFile } from 'node:fs/promises';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { join } from 'node:path';
import { management } from '../support/rabbitmq.ts';
import { redisCommand } from '../support/redis.ts';
import { RULES, type Rule } from './checker.ts';
import type { ChaosCluster } from './cluster.ts';
import { FAULTS } from './faults/index.ts';
import type { ChaosOptions } from './options.ts';
import type { RoundResult } from './result.ts';

export interface Run {
  readonly began: Date;
  readonly options: ChaosOptions;
  readonly cluster: ChaosCluster;
  readonly results: readonly RoundResult[];
}

/** What happened in all rounds of one fault. Times are milliseconds. */
interface FaultSummary {
  readonly fault: string;
  readonly title: string;
  readonly rounds: number;
  readonly attempted: number;
  readonly acknowledged: number;
  readonly unknown: number;
  readonly frames: number;
  readonly findings: Readonly<Record<Rule, number>>;
  readonly unexpectedEnds: number;
  readonly longestStallMs: number;
  readonly recoveryMs: { readonly median: number; readonly longest: number };
  readonly quietMs: { readonly median: number; readonly longest: number };
}

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]!;

const spread = (values: readonly number[]) => ({
  median: Math.round(median(values)),
  longest: Math.round(Math.max(...values)),
});

export function summarize(results: readonly RoundResult[]): FaultSummary[] {
  return FAULTS.flatMap(({ name, title }) => {
    const rounds = results.filter(({ fault }) => fault === name);
    if (rounds.length === 0) return [];
    const sum = (of: (one: RoundResult) => number) => rounds.reduce((total, one) => total + of(one), 0);
    const count = (rule: string) => sum(({ findings }) => findings.filter((one) => one.rule === rule).length);
    return [
      {
        fault: name,
        title,
        rounds: rounds.length,
        attempted: sum(({ operations }) => operations.attempted),
        acknowledged: sum(({ operations }) => operations.acknowledged),
        unknown: sum(({ operations }) => operations.unknown),
        frames: sum(({ frames }) => frames),
        findings: Object.fromEntries(
          Object.keys(RULES).map((rule) => [rule, count(rule)]),
        ) as FaultSummary['findings'],
        unexpectedEnds: sum(({ unexpectedEnds }) => unexpectedEnds.length),
        longestStallMs: Math.round(Math.max(...rounds.map(({ stallMs }) => stallMs))),
        recoveryMs: spread(rounds.map(({ recoveryMs }) => recoveryMs)),
        quietMs: spread(rounds.map(({ quietMs }) => quietMs)),
      },
    ];
  });
}

const seconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`;

/** One line about a round, and what it found. */
export function roundLine(result: RoundResult): string {
  const { operations, findings, unexpectedEnds } = result;
  const line = [
    `round ${result.round}`.padEnd(10),
    result.fault.padEnd(24),
    `seed ${result.seed}`,
    `${operations.acknowledged} of ${operations.attempted} acknowledged`,
    `${result.frames} frames`,
    `stall ${seconds(result.stallMs)}`,
    `recovery ${seconds(result.recoveryMs)}`,
    `quiet after ${seconds(result.quietMs)}`,
    `${findings.length} findings`,
  ].join('  ');
  const details = findings
    .slice(0, 10)
    .map(({ rule, user, detail, history }) =>
      [`  ${rule}: user ${user}, ${detail}`, ...history.map((one) => `    ${one}`)].join('\n'),
    );
  return [line, ...unexpectedEnds.map((end) => `  ${end}`), ...details].join('\n');
}

async function versions(cluster: ChaosCluster): Promise<Record<string, string>> {
  const { rows } = await cluster.db.query<{ v: string }>(`select current_setting('server_version') as v`);
  const overview = (await management(cluster.brokers[0]!.managementUrl, 'GET', 'overview')) as {
    rabbitmq_version: string;
  };
  const info = String(await redisCommand((await cluster.redis()).url, 'INFO', 'server'));
  return {
    Node: process.version,
    PostgreSQL: rows[0]!.v,
    RabbitMQ: overview.rabbitmq_version,
    Redis: /redis_version:(\S+)/.exec(info)?.[1] ?? 'unknown',
  };
}

/** Writes `chaos.json` and `chaos.html`. They are complete after each round. */
export async function writeReports(directory: string, run: Run): Promise<void> {
  const { options, cluster, results, began } = run;
  const report = {
    began: began.toISOString(),
    seed: options.seed,
    planted: options.planted ?? null,
    size: options.size,
    machine: {
      processor: cpus()[0]?.model ?? 'unknown',
      cores: availableParallelism(),
      memoryGiB: Math.round(totalmem() / 2 ** 30),
    },
    versions: await versions(cluster).catch(() => ({})),
    faults: summarize(results),
    rounds: results,
  };
  await mkdir(directory, { recursive: true });
  await writeFile(join(directory, 'chaos.json'), `${JSON.stringify(report, null, 2)}\n`);
  await writeFile(join(directory, 'chaos.html'), page(report));
}

const escaped = (text: unknown): string =>
  String(text).replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);

const row = (cells: readonly unknown[], tag = 'td'): string =>
  `<tr>${cells.map((cell) => `<${tag}>${escaped(cell)}</${tag}>`).join('')}</tr>`;

function page(
  report: { readonly faults: readonly FaultSummary[]; readonly rounds: readonly RoundResult[] } & Record<
    string,
    unknown
  >,
): string {
  const { faults, rounds, ...about } = report;
  const found = rounds.flatMap((one) => one.findings.map((finding) => ({ ...finding, seed: one.seed })));
  const head = [
    'fault',
    'rounds',
    'attempted',
    'acknowledged',
    'unknown',
    'frames',
    'lost',
    'duplicate',
    'stranger',
    'other findings',
    'longest stall',
    'recovery',
    'longest recovery',
  ];
  const rows = faults.map((one) => {
    const { lost, duplicate, stranger, ...others } = one.findings;
    const other = Object.values(others).reduce((sum, n) => sum + n, one.unexpectedEnds);
    return row([
      one.title,
      one.rounds,
      one.attempted,
      one.acknowledged,
      one.unknown,
      one.frames,
      lost,
      duplicate,
      stranger,
      other,
      seconds(one.longestStallMs),
      seconds(one.recoveryMs.median),
      seconds(one.recoveryMs.longest),
    ]);
  });
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>feedctl chaos</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
  table { border-collapse: collapse; } td, th { text-align: left; padding: .15rem .8rem .15rem 0; }
  pre { background: #f4f4f4; overflow: auto; padding: 1rem; }
</style>
<h1>feedctl chaos</h1>
<p>Recovery is the time from the end of a fault until posts arrive again through every gateway, at the median.</p>
<table>${row(head, 'th')}${rows.join('')}</table>
<h2>Findings</h2>
${found.length === 0 ? '<p>None.</p>' : found.map((one) => `<h3>${escaped(`${one.rule}: user ${one.user}, ${one.detail}`)}</h3><p>seed ${one.seed}</p><pre>${escaped(one.history.join('\n'))}</pre>`).join('')}
<h2>Run</h2>
<pre>${escaped(JSON.stringify(about, null, 2))}</pre>
</html>
`;
}
