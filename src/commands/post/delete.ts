import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag, postArg, yesFlag } from '../../cli/flags/common.ts';

export default class PostDelete extends BaseCommand {
  static override summary = 'Delete a post from all feeds';
  static override args = { post: postArg({ description: 'id of the post', required: true }) };
  static override flags = { 'dry-run': dryRunFlag, yes: yesFlag };
  static override examples = [
    '<%= config.bin %> post delete 2180000000000000 --dry-run',
    '<%= config.bin %> post delete 2180000000000000 --yes --json',
  ];

  async run(): Promise<{ postId: number; authorId: number; deleted: boolean }> {
    const { args, flags } = await this.parse(PostDelete);
    const dryRun = flags['dry-run'];
    if (!dryRun) await this.confirm(`Delete post ${args.post}?`, flags.yes);
    const { deletePost } = await import('../../engine/social/posts.ts');
    const { authorId } = await this.withCluster(flags, (cluster) =>
      deletePost(cluster, args.post, { dryRun }),
    );
    this.log(`${dryRun ? 'Would delete' : 'Deleted'} post ${args.post} of user ${authorId}.`);
    return { postId: args.post, authorId, deleted: !dryRun };
  }
}
