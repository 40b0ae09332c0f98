import { Flags } from '@oclif/core';
import {
  BenchCommand,
  countFlag,
  percentilesText,
  ratePlot,
  spanFlag,
  timePlot,
} from '../../cli/benchCommand.ts';
import { tableFlags } from '../../cli/flags/output.ts';
import type { BenchTrimResult } from '../../engine/bench/trim.ts';
import { formatCount } from '../../ui/terminal/format.ts';

export default class BenchTrim extends BenchCommand {
  static override summary = 'Measure trimming by whole partitions against deleting rows';
  static override description =
    `Compare the ratios, not the rates. Posts are made before, during and after each trim.
Deleting rows is measured with at most 2 million of them.

Only flags name servers, not contexts or variables: an empty cluster of --database-url,
or else a temporary embedded database.`;
  static override flags = {
    ...tableFlags,
    stored: Flags.integer({
      description: 'number of feed rows that are trimmed',
      default: 4_000_000,
      min: 1_000,
      max: 2_000_000_000,
    }),
    'stored-per-user': Flags.integer({
      description: 'number of stored rows of each reader',
      default: 40,
      min: 2,
      max: 10_000,
    }),
    seconds: spanFlag('duration of live posts around each trim', 10),
    rate: countFlag('live posts a second', 50, 10_000),
  };
  static override examples = [
    '<%= config.bin %> bench trim',
    '<%= config.bin %> bench trim --stored 20000000 --html trim.html',
  ];

  async run(): Promise<BenchTrimResult> {
    const { flags } = await this.parse(BenchTrim);
    const config = await this.loadConfig(flags);
    const { benchTrim } = await import('../../engine/bench/trim.ts');
    const { signal, onProgress } = this;
    const stored = { rows: flags.stored, perUser: flags['stored-per-user'] };
    const { seconds, rate } = flags;
    const result = await benchTrim(config, this.config.version, {
      stored,
      seconds,
      rate,
      signal,
      onProgress,
    });
    const { alone, partitions, rows } = result;
    const row = (name: string, one: BenchTrimResult['rows']): string[] => [
      name,
      `${formatCount(one.rows)} in ${one.seconds} s`,
      one.deadRows === null ? '-' : formatCount(one.deadRows),
      percentilesText(one.live),
    ];
    await this.table(
      ['trim', 'rows', 'dead rows', 'live posts, post to feed'],
      [
        ['none', '', '', percentilesText(alone)],
        row('whole partitions', partitions),
        row('row by row', rows),
      ],
    );
    this.log(`\nPartitions are ${result.speedup} times as fast. Ratio of the p99s: ${result.p99Ratio}.`);
    await this.report(result, [
      ratePlot('rows', [
        ['whole partitions', partitions.rowsPerSecond],
        ['row by row', rows.rowsPerSecond],
      ]),
      timePlot('p99 of live posts', [
        ['without a trim', alone.p99],
        ['whole partitions', partitions.live.p99],
        ['row by row', rows.live.p99],
      ]),
    ]);
    return result;
  }
}
