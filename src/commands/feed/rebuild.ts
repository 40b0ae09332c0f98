import { Flags } from '@oclif/core';
import { BaseCommand } from '../../baseCommand.ts';
import type { RebuildResult } from '../../engine/feed/rebuild.ts';
import { dryRunFlag, oneOrAll, userArg } from '../../flags.ts';
import { formatCount, formatDuration } from '../../ui/format.ts';

export default class FeedRebuild extends BaseCommand {
  static override summary = 'Make feeds equal to the follows and posts again';
  static override description =
    'Refills a feed with its newest 1,000 posts. Readers never see an emptied feed.';
  static override args = { user: userArg({ description: 'whose feed' }) };
  static override flags = {
    all: Flags.boolean({ description: 'every feed' }),
    'dry-run': dryRunFlag,
  };
  static override examples = [
    '<%= config.bin %> feed rebuild 42',
    '<%= config.bin %> feed rebuild --all --json',
  ];

  async run(): Promise<RebuildResult> {
    const { args, flags } = await this.parse(FeedRebuild);
    const user = oneOrAll(args.user, flags.all);
    const { rebuild } = await import('../../engine/feed/rebuild.ts');
    const progress = this.progress('rebuilding');
    const { signal } = this;
    const result = await this.withCluster(flags, (cluster) =>
      rebuild(cluster.db, user, {
        signal,
        changes: cluster.changes,
        dryRun: flags['dry-run'],
        onProgress: (done, items) =>
          progress.update({ done, unit: 'feeds', note: `${formatCount(items)} rows` }),
      }),
    ).finally(() => progress.end());
    this.log(
      `${flags['dry-run'] ? 'Would rebuild' : 'Rebuilt'} ${formatCount(result.users)} feed(s) with ${formatCount(result.items)} rows in ${formatDuration(result.seconds)}.`,
    );
    return result;
  }
}
