import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { oneOfUsers, userArg } from '../../cli/flags/common.ts';
import { tableFlags } from '../../cli/flags/output.ts';
import type { VerifyResult } from '../../engine/feed/verify/verify.ts';
import { verifyLines } from '../../ui/tables/verify.ts';
import { formatCount } from '../../ui/terminal/format.ts';

/** Each sampled feed needs separate statements: for more feeds, --all is faster. */
const MAX_SAMPLED = 10_000;

export default class FeedVerify extends BaseCommand {
  static override summary = 'Compare feeds with follows and posts';
  static override description =
    `Compares each feed above its floor, and lists the first 20 that differ. Exits 1 if a
difference was not repaired.

While posts are in flight, a feed may differ for a moment.`;
  static override args = { user: userArg({ description: 'id of the user whose feed it is' }) };
  static override flags = {
    ...tableFlags,
    all: Flags.boolean({ description: 'every feed' }),
    sample: Flags.integer({ description: 'number of random feeds', min: 1, max: MAX_SAMPLED }),
    repair: Flags.boolean({ description: 'rebuild the feeds that differ, and fix all other differences' }),
  };
  static override examples = [
    '<%= config.bin %> feed verify 42',
    '<%= config.bin %> feed verify --sample 1000',
    '<%= config.bin %> feed verify --all --repair --json',
  ];

  async run(): Promise<VerifyResult> {
    const { args, flags } = await this.parse(FeedVerify);
    const user = oneOfUsers(args.user, { all: flags.all, sample: flags.sample });
    const { sampleUsers, verify } = await import('../../engine/feed/verify/verify.ts');
    const { signal } = this;
    const result = await this.withProgress('verifying', (progress) =>
      this.withCluster(flags, async (cluster) => {
        const users = flags.sample === undefined ? user : await sampleUsers(cluster.db, flags.sample);
        return verify(cluster.db, users, {
          signal,
          changes: cluster.changes,
          ...(cluster.sharedCache && { cache: cluster.sharedCache }),
          repair: flags.repair,
          onProgress: (done, total, bad) =>
            progress.update({ done, total, unit: 'feeds', note: `${formatCount(bad)} differ` }),
        });
      }),
    );
    for (const line of verifyLines(result, { user: args.user, repair: flags.repair })) this.log(line);
    if (result.mismatched + result.stale + result.asymmetric > result.repaired) process.exitCode = 1;
    return result;
  }
}
