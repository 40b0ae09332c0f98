import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag, oneOfUsers, userArg, yesFlag } from '../../cli/flags/common.ts';

export default class CacheClear extends BaseCommand {
  static override summary = 'Remove feeds from the cache, in all processes';
  static override description =
    `Feeds themselves do not change: the next read of each goes to the database. --all
asks for confirmation, because for a moment every page comes from the database.`;
  static override args = { user: userArg({ description: 'id of the user' }) };
  static override flags = {
    all: Flags.boolean({ description: 'every feed' }),
    'dry-run': dryRunFlag,
    yes: yesFlag,
  };
  static override examples = [
    '<%= config.bin %> cache clear 42',
    '<%= config.bin %> cache clear --all --yes --json',
  ];

  async run(): Promise<{ userId: number | null; cleared: boolean; dryRun: boolean }> {
    const { args, flags } = await this.parse(CacheClear);
    const userId = oneOfUsers(args.user, { all: flags.all });
    const dryRun = flags['dry-run'];
    const what = userId === undefined ? 'every cached feed' : `the cached feed of user ${userId}`;
    const { clearCache } = await import('../../engine/gateway/operator/cacheStats.ts');
    const { getUser } = await import('../../engine/store/users.ts');
    await this.withCluster(flags, async (cluster) => {
      if (userId !== undefined) await getUser(cluster.db, userId);
      if (dryRun) return;
      if (userId === undefined) await this.confirm(`Remove ${what}?`, flags.yes);
      await clearCache(cluster, userId);
    });
    this.log(`${dryRun ? 'Would remove' : 'Removed'} ${what}.`);
    return { userId: userId ?? null, cleared: !dryRun, dryRun };
  }
}
