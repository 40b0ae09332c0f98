import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag, oneOfUsers, userArg } from '../../cli/flags/common.ts';
import type { TrimResult } from '../../engine/feed/trim/trim.ts';
import { FEED_LIMIT } from '../../engine/model/feed.ts';
import { formatCount, formatDuration } from '../../ui/terminal/format.ts';

export default class FeedTrim extends BaseCommand {
  static override summary = 'Cut materialized feeds to their newest rows';
  static override description =
    `Readers see no difference: older posts are read from the posts themselves. Workers
trim feeds too.

With --all it is an operation: after Ctrl-C (exit 3) the same command continues.`;
  static override args = { user: userArg({ description: 'id of the user whose feed it is' }) };
  static override flags = {
    all: Flags.boolean({ description: 'every feed' }),
    keep: Flags.integer({ description: 'number of rows to keep in each feed', default: FEED_LIMIT, min: 1 }),
    'dry-run': dryRunFlag,
  };
  static override examples = [
    '<%= config.bin %> feed trim 42 --keep 100',
    '<%= config.bin %> feed trim --all --dry-run --json',
  ];

  async run(): Promise<TrimResult> {
    const { args, flags } = await this.parse(FeedTrim);
    const user = oneOfUsers(args.user, { all: flags.all });
    const [{ trim }, { trimAll }] = await Promise.all([
      import('../../engine/feed/trim/trim.ts'),
      import('../../engine/feed/trim/operation.ts'),
    ]);
    const { signal, onResume } = this;
    const how = { keep: flags.keep, dryRun: flags['dry-run'], signal };
    const result = await this.withProgress('trimming', (progress) =>
      this.withCluster(flags, (cluster) =>
        user === undefined
          ? trimAll(cluster, {
              ...how,
              onResume,
              onProgress: (done, items) =>
                progress.update({ done, unit: 'feeds', note: `${formatCount(items)} rows` }),
            })
          : trim(cluster.db, user, { ...how, changes: cluster.changes }),
      ),
    );
    const what = flags['dry-run'] ? 'Would trim' : 'Trimmed';
    this.log(
      `${what} ${formatCount(result.users)} feed(s) by ${formatCount(result.items)} rows ` +
        `in ${formatDuration(result.seconds)}.`,
    );
    return result;
  }
}
