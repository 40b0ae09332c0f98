import { Flags } from '@oclif/core';
import { BaseCommand } from '../../baseCommand.ts';
import type { BenchFanoutResult } from '../../engine/admin/bench.ts';
import { formatCount } from '../../ui/format.ts';
import { renderTable } from '../../ui/table.ts';

export default class BenchFanout extends BaseCommand {
  static override summary = 'Measure the path of a post against COPY of the same rows';
  static override description =
    'Runs in a temporary embedded cluster. Read the ratio, not the figures: path and limit alternate within one run on one machine.';
  static override flags = {
    posts: Flags.integer({ description: 'posts in a run', default: 4_000, min: 1, max: 1_000_000 }),
    followers: Flags.integer({
      description: 'followers of each author',
      default: 400,
      min: 1,
      max: 1_000_000,
    }),
    runs: Flags.integer({ description: 'runs of each', default: 3, min: 1, max: 100 }),
  };
  static override examples = [
    '<%= config.bin %> bench fanout',
    '<%= config.bin %> bench fanout --posts 100000 --followers 8 --json',
  ];

  async run(): Promise<BenchFanoutResult> {
    const { flags } = await this.parse(BenchFanout);
    const config = await this.loadConfig(flags);
    const { benchFanout } = await import('../../engine/admin/bench.ts');
    const { signal } = this;
    const result = await benchFanout(config, this.config.version, {
      ...flags,
      signal,
      onProgress: (text) => process.stderr.write(`${text}\n`),
    });
    const { latencyMs, baseline, machine } = result;
    const rows: [string, string][] = [
      ['deliveries', formatCount(result.deliveries)],
      ['the path', `${formatCount(result.deliveriesPerSecond)}/s`],
      ['COPY alone', `${formatCount(result.rawCopyPerSecond)}/s`],
      ['ratio', `${result.ratio} (runs: ${result.runs.map((run) => run.ratio).join(', ')})`],
      [baseline.name, `${formatCount(baseline.deliveriesPerSecond)}/s, ${baseline.speedup} times slower`],
      ['post to feed', `p50 ${latencyMs.p50} ms, p95 ${latencyMs.p95} ms, p99 ${latencyMs.p99} ms`],
      [
        'machine',
        `${machine.cores} cores, ${machine.cpu}, ${machine.memoryGiB} GiB, Node ${machine.node}, PostgreSQL ${machine.postgres}`,
      ],
    ];
    this.log(renderTable(['what', 'result'], rows, { borders: Boolean(process.stdout.isTTY) }));
    return result;
  }
}
