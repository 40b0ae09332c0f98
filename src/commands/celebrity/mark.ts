import { BaseCommand } from '../../baseCommand.ts';
import type { CelebrityResult } from '../../engine/admin/celebrity.ts';
import { dryRunFlag, userArg } from '../../flags.ts';
import { formatCount } from '../../ui/format.ts';

export default class CelebrityMark extends BaseCommand {
  static override summary = 'Merge an author’s posts when feeds are read, instead of fanning them out';
  static override description =
    'Goes from push over both to pull: no reader misses a post or sees one twice. Run it again after an interruption: it finishes.';
  static override args = { user: userArg({ description: 'id of the author', required: true }) };
  static override flags = { 'dry-run': dryRunFlag };
  static override examples = [
    '<%= config.bin %> celebrity mark 88',
    '<%= config.bin %> celebrity mark 88 --dry-run --json',
  ];

  async run(): Promise<CelebrityResult> {
    const { args, flags } = await this.parse(CelebrityMark);
    const { markCelebrity } = await import('../../engine/admin/celebrity.ts');
    const progress = this.progress('feeds');
    const { signal } = this;
    const result = await this.withCluster(flags, (cluster) =>
      markCelebrity(cluster, args.user, {
        signal,
        dryRun: flags['dry-run'],
        onProgress: (done, total) => progress.update({ done, total, unit: 'feeds' }),
      }),
    ).finally(() => progress.end());
    if (flags['dry-run'])
      this.log(
        `Would change user ${args.user} with ${formatCount(result.followers)} followers: ${result.changed ? 'yes' : 'no'}.`,
      );
    else
      this.log(
        `${result.changed ? 'Changed' : 'Unchanged'}: ${formatCount(result.items)} rows removed from ${formatCount(result.followers)} feeds.`,
      );
    return result;
  }
}
