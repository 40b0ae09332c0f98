import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag, oneOfUsers, timeFlag, userArg } from '../../cli/flags/common.ts';
import type { RetireResult } from '../../engine/feed/trim/retire.ts';
import type { TrimResult } from '../../engine/feed/trim/trim.ts';
import { counted } from '../../engine/model/counted.ts';
import { FeedctlError } from '../../engine/model/errors.ts';
import { FEED_LIMIT } from '../../engine/model/feed.ts';
import { formatCount, formatDuration } from '../../ui/terminal/format.ts';

export default class FeedTrim extends BaseCommand {
  static override summary = 'Cut materialized feeds to their newest rows';
  static override description =
    `Readers see no difference: older posts are read from the posts themselves. Workers
trim feeds too.

With --all it is an operation: after Ctrl-C (exit 3) the same command continues.
--before removes the rows of old posts of all feeds at once, by whole partitions.`;
  static override args = { user: userArg({ description: 'id of the user whose feed it is' }) };
  static override flags = {
    all: Flags.boolean({ description: 'every feed' }),
    keep: Flags.integer({ description: 'number of rows to keep in each feed', default: FEED_LIMIT, min: 1 }),
    before: timeFlag({
      description: 'remove partitions whose posts are all older than this time or age',
      dependsOn: ['all'],
    }),
    'dry-run': dryRunFlag,
  };
  static override examples = [
    '<%= config.bin %> feed trim 42 --keep 100',
    '<%= config.bin %> feed trim --all --dry-run --json',
    '<%= config.bin %> feed trim --all --before 30d',
  ];

  async run(): Promise<TrimResult | RetireResult> {
    const { args, flags, metadata } = await this.parse(FeedTrim);
    const user = oneOfUsers(args.user, { all: flags.all });
    if (flags.before && !metadata.flags.keep?.setFromDefault)
      throw new FeedctlError(
        'USAGE',
        'pass --keep or --before, not both: --before removes rows by their age',
      );
    if (flags.before) return this.#retire(flags, flags.before);
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
    const what = `${counted(result.users, 'feed')} by ${counted(result.items, 'row')}`;
    if (result.items === 0)
      this.log(`No feed has more than ${counted(flags.keep, 'row')}. Nothing was changed.`);
    else if (flags['dry-run']) this.log(`Would trim ${what}. Nothing was changed.`);
    else this.log(`Trimmed ${what} in ${formatDuration(result.seconds)}.`);
    return result;
  }

  async #retire(flags: { 'dry-run': boolean }, before: Date): Promise<RetireResult> {
    const { retire } = await import('../../engine/feed/trim/retire.ts');
    const { signal, onResume } = this;
    const dryRun = flags['dry-run'];
    const result = await this.withProgress('raising floors', (progress) =>
      this.withCluster(flags, ({ db }) =>
        retire(db, {
          beforeMs: before.getTime(),
          dryRun,
          signal,
          onResume,
          onProgress: (done) => progress.update({ done, unit: 'feeds' }),
        }),
      ),
    );
    const { partitions, items, seconds } = result;
    const what = `${dryRun ? 'Would remove' : 'Removed'} about ${formatCount(items)} rows`;
    this.log(
      partitions.length > 0
        ? `${what} of ${partitions.join(', ')} in ${formatDuration(seconds)}.`
        : `No partition has only posts before ${before.toISOString()}: nothing was changed.`,
    );
    return result;
  }
}
