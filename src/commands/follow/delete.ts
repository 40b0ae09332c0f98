import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag, userArg } from '../../cli/flags/common.ts';

export default class FollowDelete extends BaseCommand {
  static override summary = 'Let a user unfollow another';
  static override args = {
    follower: userArg({ description: 'id of the user whose feed changes', required: true }),
    followee: userArg({ description: 'id of the user who is followed', required: true }),
  };
  static override flags = { 'dry-run': dryRunFlag };
  static override examples = [
    '<%= config.bin %> follow delete 42 7',
    '<%= config.bin %> follow delete 42 7 --json',
  ];

  async run(): Promise<{ followerId: number; followeeId: number; changed: boolean; dryRun: boolean }> {
    const { args, flags } = await this.parse(FollowDelete);
    const { unfollow } = await import('../../engine/social/follows.ts');
    const pair = { followerId: args.follower, followeeId: args.followee };
    const dryRun = flags['dry-run'];
    const changed = await this.withCluster(flags, (cluster) => unfollow(cluster, pair, { dryRun }));
    const [follower, followee] = [`User ${args.follower}`, `user ${args.followee}`];
    if (!changed) this.log(`${follower} does not follow ${followee}. Nothing was changed.`);
    else if (dryRun) this.log(`Would make user ${args.follower} unfollow ${followee}. Nothing was changed.`);
    else this.log(`${follower} no longer follows ${followee}. The feed shows none of their posts any more.`);
    return { ...pair, changed, dryRun };
  }
}
