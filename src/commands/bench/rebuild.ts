import { Flags } from '@oclif/core';
import { BenchCommand, countFlag, ratePlot, spanFlag } from '../../cli/benchCommand.ts';
import { tableFlags } from '../../cli/flags/output.ts';
import type { BenchRebuildResult } from '../../engine/bench/rebuild.ts';
import { formatCount } from '../../ui/terminal/format.ts';

export default class BenchRebuild extends BenchCommand {
  static override summary = 'Measure `feed rebuild --all` against one plain insert of the same rows';
  static override description =
    `Compare the ratios, not the rates. Each run measures one \`insert ... select\` of all
feed rows, the rebuild of emptied and of sound feeds, and the latency of live posts
alone and during a rebuild.

Only flags name servers, not contexts or variables: an empty cluster of --database-url,
or else a temporary embedded database.`;
  static override flags = {
    ...tableFlags,
    graph: Flags.string({
      description: 'path of a SNAP edge list; may be repeated',
      multiple: true,
      required: true,
      helpValue: '<path>',
    }),
    activity: Flags.string({ description: 'path of the activity file', required: true, helpValue: '<path>' }),
    runs: countFlag('number of runs', 3, 100),
    seconds: spanFlag('duration of live posts without a rebuild', 10),
    rate: countFlag('live posts a second', 50, 10_000),
  };
  static override examples = [
    '<%= config.bin %> bench rebuild --graph follows.edgelist.gz --activity activity_time.txt.gz',
    '<%= config.bin %> bench rebuild --graph a.gz --graph b.gz --activity activity.gz --runs 1 --json',
  ];

  async run(): Promise<BenchRebuildResult> {
    const { flags } = await this.parse(BenchRebuild);
    const config = await this.loadConfig(flags);
    const { benchRebuild } = await import('../../engine/bench/rebuild.ts');
    const { signal, onProgress } = this;
    const result = await benchRebuild(config, this.config.version, {
      ...flags,
      signal,
      onProgress,
    });
    const { live, verify } = result;
    const ratios = result.runs.map((run) => run.ratio).join(', ');
    const p99Ratios = result.runs.map((run) => run.live.p99Ratio).join(', ');
    this.log(`${formatCount(result.users)} feeds, ${formatCount(result.items)} rows.`);
    this.log(
      `Rebuilt ${formatCount(result.rebuildRowsPerSecond)} rows/s, ` +
        `one insert ... select ${formatCount(result.plainRowsPerSecond)} rows/s: ` +
        `ratio ${result.ratio} (${ratios}).`,
    );
    this.log(`Sound feeds: ${formatCount(result.soundFeedsPerSecond)} a second.`);
    this.log(
      `Live posts, from post to feed: p50 ${live.alone.p50} ms, p99 ${live.alone.p99} ms; ` +
        `during a rebuild of ${live.during.seconds} s p50 ${live.during.p50} ms, ` +
        `p99 ${live.during.p99} ms: ratio ${live.p99Ratio} (${p99Ratios}).`,
    );
    this.log(`Verified ${formatCount(verify.checked)} feeds: ${verify.mismatched} differ.`);
    await this.report(result, [
      ratePlot('rows', [
        ['rebuild of emptied feeds', result.rebuildRowsPerSecond],
        ['one insert ... select', result.plainRowsPerSecond],
      ]),
    ]);
    return result;
  }
}
