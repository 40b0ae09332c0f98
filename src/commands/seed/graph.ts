import { Args } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { celebrityThresholdFlag, dryRunFlag } from '../../cli/flags/common.ts';
import type { SeedResult } from '../../engine/imports/followGraph.ts';
import { formatCount, formatDuration } from '../../ui/terminal/format.ts';

export default class SeedGraph extends BaseCommand {
  static override summary = 'Load a follow graph from edge lists';
  static override description =
    `Reads SNAP edge lists, gzipped or not: \`follower followee [weight]\` a line, comments
after \`#\`. Every id becomes a user; self-loops are ignored.

Loads either all files or none.`;
  static override strict = false;
  static override args = { file: Args.string({ description: 'paths of edge lists', required: true }) };
  static override flags = {
    'celebrity-threshold': celebrityThresholdFlag,
    'dry-run': dryRunFlag,
  };
  static override examples = [
    '<%= config.bin %> seed graph follows.edgelist.gz',
    '<%= config.bin %> seed graph retweets.gz mentions.gz replies.gz --celebrity-threshold 1000 --json',
  ];

  async run(): Promise<SeedResult> {
    const { argv, flags } = await this.parse(SeedGraph);
    const { seedGraph } = await import('../../engine/imports/followGraph.ts');
    const { signal } = this;
    const result = await this.withProgress('reading', (progress) =>
      this.withCluster(flags, (cluster) =>
        seedGraph(cluster, argv as string[], {
          celebrityThreshold: flags['celebrity-threshold'],
          dryRun: flags['dry-run'],
          signal,
          onProgress: (done, title) => progress.update({ title, done, unit: 'pairs' }),
        }),
      ),
    );
    const would = flags['dry-run'] ? 'Would add' : 'Added';
    this.log(
      `${would} ${formatCount(result.users)} users and ${formatCount(result.follows)} follows ` +
        `in ${formatDuration(result.seconds)}; ${formatCount(result.celebrities)} authors are celebrities.`,
    );
    return result;
  }
}
