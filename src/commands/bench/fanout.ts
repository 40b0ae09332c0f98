import { Flags } from '@oclif/core';
import {
  BenchCommand,
  percentilesText,
  plotOf,
  ratePlot,
  storedFlags,
  storedOf,
} from '../../cli/benchCommand.ts';
import { tableFlags } from '../../cli/flags/output.ts';
import type { BenchFanoutResult, StoredResult } from '../../engine/bench/fanout.ts';
import { formatCount } from '../../ui/terminal/format.ts';

const MIXES = ['uniform', 'higgs', 'one'] as const;

export default class BenchFanout extends BenchCommand {
  static override summary = 'Measure the path of a post against COPY of the same rows';
  static override description =
    `Compare the ratio, not the rates: the path and plain COPY alternate in one run on
one machine, with cached feeds and open sockets.

Only flags name servers, not contexts or variables: an empty cluster of --database-url,
or else a temporary embedded database.`;
  static override flags = {
    ...tableFlags,
    mix: Flags.option({
      description: 'uniform: every author has --followers; higgs: a real week; one: one post to --followers',
      options: MIXES,
      default: 'uniform' as const,
    })(),
    posts: Flags.integer({
      description: 'number of posts in a run [default: 4000; higgs: 200000]',
      min: 1,
      max: 1_000_000,
    }),
    followers: Flags.integer({
      description: 'number of followers of each author [default: 400; one: 1000000]',
      min: 1,
      max: 5_000_000,
    }),
    runs: Flags.integer({ description: 'number of runs of each kind', default: 3, min: 1, max: 100 }),
    baseline: Flags.option({
      description: 'second comparison: one insert a row, or one message a follower (needs a broker)',
      options: ['one-insert', 'per-follower', 'none'] as const,
      default: 'one-insert' as const,
    })(),
    ...storedFlags,
    'empty-database-url': Flags.string({
      description: 'URL of an empty database for the runs without stored rows, without a password',
      dependsOn: ['stored', 'database-url'],
    }),
  };
  static override examples = [
    '<%= config.bin %> bench fanout --posts 100000 --followers 8 --json',
    '<%= config.bin %> bench fanout --broker-url amqp://localhost --baseline per-follower',
    '<%= config.bin %> bench fanout --stored 40000000 --html full.html',
  ];

  async run(): Promise<BenchFanoutResult> {
    const { flags } = await this.parse(BenchFanout);
    const config = await this.loadConfig(flags);
    const { benchFanout } = await import('../../engine/bench/fanout.ts');
    const { higgsMix, uniformMix } = await import('../../engine/bench/mixes.ts');
    const { storedReaders } = await import('../../engine/bench/stored.ts');
    const one = flags.mix === 'one';
    const stored = storedOf(flags);
    const readers = stored && storedReaders(stored);
    const mix =
      flags.mix === 'higgs'
        ? higgsMix(flags.posts ?? 200_000, readers)
        : uniformMix(flags.posts ?? (one ? 1 : 4_000), flags.followers ?? (one ? 1_000_000 : 400), readers);
    const { signal, onProgress } = this;
    const result = await benchFanout(config, this.config.version, {
      mix,
      runs: flags.runs,
      baseline: flags.baseline,
      smallPosts: one,
      ...(stored && { stored, emptyDatabaseUrl: flags['empty-database-url'] }),
      signal,
      onProgress,
    });
    await this.table(['what', 'result'], resultRows(result));
    await this.report(result, plots(result));
    return result;
  }
}

function resultRows(result: BenchFanoutResult): [string, string][] {
  const { latencyMs, baseline, smallPosts, stored } = result;
  const rows: [string, string][] = [
    ['deliveries', `${formatCount(result.deliveries)} of ${formatCount(result.posts)} posts, ${result.mix}`],
    ['the path', `${formatCount(result.deliveriesPerSecond)}/s, ${result.seconds.toFixed(2)} s`],
    ['COPY alone', `${formatCount(result.rawCopyPerSecond)}/s`],
    ['ratio', `${result.ratio} (runs: ${result.runs.map((run) => run.ratio).join(', ')})`],
    ['dispatch to feed', percentilesText(latencyMs)],
  ];
  if (smallPosts) rows.push([`${smallPosts.posts} small posts meanwhile`, percentilesText(smallPosts)]);
  if (baseline)
    rows.push([
      baseline.name,
      `${formatCount(baseline.deliveriesPerSecond)}/s, ${baseline.speedup} times slower`,
    ]);
  rows.push([
    'cached and pushed',
    `${formatCount(result.cachedFeeds)} feeds, ${formatCount(result.pushed)} frames`,
  ]);
  if (stored) rows.push(...storedRows(stored));
  return rows;
}

function storedRows(stored: StoredResult): [string, string][] {
  const { walBytesPerRow: wal } = stored;
  const bytes = (value: number | null) => (value === null ? 'not measured' : `${Math.round(value)} B`);
  const against = (ratio: number | null) => (ratio === null ? 'not measured' : String(ratio));
  return [
    ['stored rows', `${formatCount(stored.rows)} of ${formatCount(stored.users)} users`],
    ['path against COPY into them', against(stored.ratioToCopy)],
    ['path against an empty store', against(stored.ratioToEmpty)],
    ['WAL a row, path', `${bytes(wal.path)}, into an empty store ${bytes(wal.emptyPath)}`],
    ['WAL a row, COPY', `${bytes(wal.copy)}, into an empty table ${bytes(wal.emptyCopy)}`],
    ['checkpoints', formatCount(stored.checkpoints)],
    ['page from the table', percentilesText(stored.pageMs)],
  ];
}

function plots({ deliveriesPerSecond, rawCopyPerSecond, baseline, stored }: BenchFanoutResult) {
  const rates = ratePlot('rows', [
    [stored ? 'the path into the stored rows' : 'the path', deliveriesPerSecond],
    ['COPY into an empty table', rawCopyPerSecond],
    ['COPY into the stored rows', stored?.copyPerSecond ?? null],
    ['the path into an empty store', stored?.emptyDeliveriesPerSecond ?? null],
    [baseline?.name ?? '', baseline?.deliveriesPerSecond ?? null],
  ]);
  if (!stored) return [rates];
  const { path, copy, emptyPath, emptyCopy } = stored.walBytesPerRow;
  const wal = plotOf(
    'WAL of a row',
    [
      ['the path into the stored rows', path],
      ['the path into an empty store', emptyPath],
      ['COPY into the stored rows', copy],
      ['COPY into an empty table', emptyCopy],
    ],
    (value) => `${Math.round(value)} B`,
  );
  return [rates, wal];
}
