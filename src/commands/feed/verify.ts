import { Flags } from '@oclif/core';
import { BaseCommand } from '../../baseCommand.ts';
import type { VerifyResult } from '../../engine/feed/verify.ts';
import { oneOrAll, userArg } from '../../flags.ts';
import { formatCount } from '../../ui/format.ts';
import { renderTable } from '../../ui/table.ts';

export default class FeedVerify extends BaseCommand {
  static override summary = 'Compare feeds with what the follows and posts say';
  static override description =
    'Compares above the floor of each feed. missing and strangers: rows, and entries of cached feeds. orphans: rows of posts that are deleted, merged, or never were. duplicates: repeats in a cached feed. stale: texts in Redis of posts that are deleted or edited, with --all of every post. asymmetric: follows that one side alone knows. Exits 1 where something differs and was not repaired. With posts on their way, a feed may differ for a moment.';
  static override args = { user: userArg({ description: 'whose feed' }) };
  static override flags = {
    all: Flags.boolean({ description: 'every feed' }),
    repair: Flags.boolean({ description: 'rebuild the feeds that differ, and mend what else does' }),
  };
  static override examples = [
    '<%= config.bin %> feed verify 42',
    '<%= config.bin %> feed verify --all --repair --json',
  ];

  async run(): Promise<VerifyResult> {
    const { args, flags } = await this.parse(FeedVerify);
    const user = oneOrAll(args.user, flags.all);
    const { verify } = await import('../../engine/feed/verify.ts');
    const progress = this.progress('verifying');
    const { signal } = this;
    const result = await this.withCluster(flags, (cluster) =>
      verify(cluster.db, user, {
        signal,
        changes: cluster.changes,
        ...(cluster.sharedCache && { cache: cluster.sharedCache }),
        repair: flags.repair,
        onProgress: (done, total, bad) =>
          progress.update({ done, total, unit: 'feeds', note: `${formatCount(bad)} differ` }),
      }),
    ).finally(() => progress.end());
    const names = [
      'checked',
      'mismatched',
      'missing',
      'strangers',
      'orphans',
      'duplicates',
      'stale',
      'asymmetric',
      'repaired',
    ] as const;
    this.log(
      renderTable([...names], [names.map((name) => result[name])], {
        borders: Boolean(process.stdout.isTTY),
      }),
    );
    if (result.mismatched + result.stale + result.asymmetric > result.repaired) process.exitCode = 1;
    return result;
  }
}
