import { Args } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag, userArg } from '../../cli/flags/common.ts';
import type { Post } from '../../engine/model/post.ts';

export default class PostCreate extends BaseCommand {
  static override summary = 'Create a post as a user';
  static override args = {
    author: userArg({ description: 'id of the author', required: true }),
    text: Args.string({ description: 'text of the post, up to 5,000 characters', required: true }),
  };
  static override flags = { 'dry-run': dryRunFlag };
  static override examples = [
    '<%= config.bin %> post create 42 "hello, world"',
    '<%= config.bin %> post create 42 "$(cat text.txt)" --json',
  ];

  async run(): Promise<Post> {
    const { args, flags } = await this.parse(PostCreate);
    const { createPost } = await import('../../engine/social/posts.ts');
    const options = { dryRun: flags['dry-run'] };
    const post = await this.withCluster(flags, (cluster) =>
      createPost(cluster, args.author, args.text, options),
    );
    this.log(options.dryRun ? 'Would create the post.' : `Created post ${post.id}.`);
    return post;
  }
}
