import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { userArg } from '../../cli/flags/common.ts';
import { tableFlags } from '../../cli/flags/output.ts';
import { type FeedPage, MAX_PAGE, readFeed } from '../../engine/feed/read/read.ts';
import { oneLine } from '../../ui/terminal/format.ts';

export default class FeedShow extends BaseCommand {
  static override summary = 'Show a home feed, newest first';
  static override args = {
    user: userArg({ description: 'id of the user whose feed it is', required: true }),
  };
  static override flags = {
    ...tableFlags,
    limit: Flags.integer({ description: 'maximum posts on the page', default: 20, min: 1, max: MAX_PAGE }),
    after: Flags.string({ aliases: ['cursor'], description: '`nextCursor` of the previous page' }),
  };
  static override examples = [
    '<%= config.bin %> feed show 42',
    '<%= config.bin %> feed show 42 --limit 100 --json',
  ];

  async run(): Promise<FeedPage> {
    const { args, flags } = await this.parse(FeedShow);
    const query = { limit: flags.limit, ...(flags.after !== undefined && { cursor: flags.after }) };
    const page = await this.withCluster(flags, (cluster) => readFeed(cluster.db, args.user, query));
    if (page.items.length === 0) this.log('The feed is empty.');
    else {
      const rows = page.items.map((item) => [
        item.createdAt.toISOString(),
        String(item.postId),
        String(item.authorId),
        item.source,
        oneLine(item.body, 80),
      ]);
      await this.table(['created', 'post', 'author', 'source', 'text'], rows);
    }
    if (page.nextCursor) this.logToStderr(`More: --after ${page.nextCursor}`);
    return page;
  }
}
