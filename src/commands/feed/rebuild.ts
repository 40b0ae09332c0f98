import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag, oneOfUsers, userArg } from '../../cli/flags/common.ts';
import type { RebuildResult } from '../../engine/feed/rebuild/rebuild.ts';
import { counted } from '../../engine/model/counted.ts';
import { laneNotes } from '../../ui/tables/lanes.ts';
import { formatCount, formatDuration } from '../../ui/terminal/format.ts';

export default class FeedRebuild extends BaseCommand {
  static override summary = 'Rebuild feeds from follows and posts';
  static override description = `Refills a feed with its newest 1,000 posts; readers never see an empty feed.

--all and --file yield to live fan-out, and obey \`fanout pause\` and \`fanout throttle\` of
the bulk lane. After Ctrl-C or a crash the same command, or \`operation resume\`,
continues.`;
  static override args = { user: userArg({ description: 'id of the user whose feed it is' }) };
  static override flags = {
    all: Flags.boolean({ description: 'every feed' }),
    file: Flags.string({ description: 'file with one user id a line, for their feeds', helpValue: '<path>' }),
    rate: Flags.integer({ description: 'maximum feeds a second', min: 1 }),
    'dry-run': dryRunFlag,
  };
  static override examples = [
    '<%= config.bin %> feed rebuild 42',
    '<%= config.bin %> feed rebuild --all --rate 2000',
    '<%= config.bin %> feed rebuild --file users.txt.gz --dry-run --json',
  ];

  async run(): Promise<RebuildResult> {
    const { args, flags } = await this.parse(FeedRebuild);
    const user = oneOfUsers(args.user, { all: flags.all, file: flags.file });
    const { rebuild } = await import('../../engine/feed/rebuild/rebuild.ts');
    const { rebuildMany } = await import('../../engine/feed/rebuild/operation.ts');
    const dryRun = flags['dry-run'];
    let waits = false;
    const { signal, onResume } = this;
    const result = await this.withProgress(dryRun ? 'comparing' : 'rebuilding', (progress) =>
      this.withCluster(flags, (cluster) =>
        user === undefined
          ? rebuildMany(cluster, {
              signal,
              onResume,
              dryRun,
              rate: flags.rate,
              file: flags.file,
              onProgress: ({ users, added, removed }, total, before, waitsFor) => {
                if (waitsFor && !waits) {
                  progress.end();
                  for (const note of laneNotes([waitsFor])) this.logToStderr(`${note}: this waits.`);
                }
                waits = waitsFor !== undefined;
                progress.update({
                  done: users,
                  total,
                  before,
                  unit: 'feeds',
                  note: waits
                    ? 'waits for the bulk lane'
                    : `${formatCount(added)} rows added, ${formatCount(removed)} removed`,
                });
              },
            })
          : rebuild(cluster.db, user, { signal, changes: cluster.changes, dryRun }),
      ),
    );
    const { users, items, added, removed, seconds } = result;
    const feeds = `${counted(users, 'feed')} with ${counted(items, 'row')}`;
    const changes = `${counted(added, 'row')} added, ${formatCount(removed)} removed`;
    if (dryRun) this.log(`Would rebuild ${feeds}: ${changes}. Nothing was changed.`);
    else this.log(`Rebuilt ${feeds} in ${formatDuration(seconds)}: ${changes}.`);
    if (removed > 0)
      this.log('A rebuild keeps the newest 1,000 rows of a feed; readers reach older posts all the same.');
    return result;
  }
}
