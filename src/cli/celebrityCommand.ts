import type { CelebrityResult } from '../engine/celebrities/change.ts';
import { formatCount } from '../ui/terminal/format.ts';
import { BaseCommand } from './baseCommand.ts';
import { dryRunFlag, userArg } from './flags/common.ts';

/** Base of `celebrity mark` and `celebrity unmark`. */
export abstract class CelebrityChange extends BaseCommand {
  static override args = { user: userArg({ description: 'id of the author', required: true }) };
  static override flags = { 'dry-run': dryRunFlag };

  protected abstract readonly direction: 'mark' | 'unmark';

  async run(): Promise<CelebrityResult> {
    // The parser ignores inherited fields, and the arguments are in this class.
    const { args, flags } = await this.parse(CelebrityChange);
    const { markCelebrity, unmarkCelebrity } = await import('../engine/celebrities/change.ts');
    const work = this.direction === 'mark' ? markCelebrity : unmarkCelebrity;
    const dryRun = flags['dry-run'];
    const { signal } = this;
    const result = await this.withProgress('feeds', (progress) =>
      this.withCluster(flags, async (cluster) => {
        if (!dryRun) await this.warnOfPauses(cluster.db);
        return work(cluster, args.user, {
          signal,
          dryRun,
          pin: true,
          onResume: this.onResume,
          onProgress: (done, total) => progress.update({ done, total, unit: 'feeds' }),
        });
      }),
    );
    const followers = formatCount(result.followers);
    const change = this.direction === 'mark' ? 'removed from' : 'added to';
    if (!result.changed) this.log(`Nothing to change: user ${args.user} is ${this.direction}ed already.`);
    else if (dryRun) this.log(`Would change user ${args.user} with ${followers} followers.`);
    else this.log(`Changed: ${formatCount(result.items)} rows ${change} ${followers} feeds.`);
    return result;
  }
}
