import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag, userArg } from '../../cli/flags/common.ts';

export default class FollowCreate extends BaseCommand {
  static override summary = 'Let a user follow another';
  static override args = {
    follower: userArg({ description: 'id of the user whose feed changes', required: true }),
    followee: userArg({ description: 'id of the user who is followed', required: true }),
  };
  static override flags = { 'dry-run': dryRunFlag };
  static override examples = [
    '<%= config.bin %> follow create 42 7',
    '<%= config.bin %> follow create 42 7 --json',
  ];

  async run(): Promise<{ followerId: number; followeeId: number; changed: boolean; dryRun: boolean }> {
    const { args, flags } = await this.parse(FollowCreate);
    const { follow } = await import('../../engine/social/follows.ts');
    const pair = { followerId: args.follower, followeeId: args.followee };
    const dryRun = flags['dry-run'];
    const changed = await this.withCluster(flags, (cluster) => follow(cluster, pair, { dryRun }));
    const [follower, followee] = [`User ${args.follower}`, `user ${args.followee}`];
    if (!changed) this.log(`${follower} follows ${followee} already. Nothing was changed.`);
    else if (dryRun) this.log(`Would make user ${args.follower} follow ${followee}. Nothing was changed.`);
    else this.log(`${follower} follows ${followee} now. The feed gets the posts of ${followee} in a moment.`);
    return { ...pair, changed, dryRun };
  }
}
