import { mkdir, writeFile } from 'node:fs/promises';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { join } from 'node:path';
import { management } from '../support/rabbitmq.ts';
import { redisCommand } from '../support/redis.ts';
import type { ChaosCluster } from './cluster.ts';
import { FAULTS } from './faults/index.ts';
import type { ChaosOptions } from './options.ts';
import { type ChaosReport, type FaultSummary, page, seconds } from './page.ts';
import type { RoundResult } from './result.ts';
import { RULES } from './rules.ts';
import { table } from './table.ts';

export interface Run {
  readonly began: Date;
  readonly options: ChaosOptions;
  readonly cluster: ChaosCluster;
  readonly results: readonly RoundResult[];
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

/** Writes `chaos.json`, `chaos.html` and `chaos.md`. They are complete after each round. */
export async function writeReports(directory: string, run: Run): Promise<void> {
  const { options, cluster, results, began } = run;
  const report: ChaosReport = {
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
  await writeFile(join(directory, 'chaos.md'), table(report));
}
