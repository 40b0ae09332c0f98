import { Flags } from '@oclif/core';
import { aborted, BaseCommand } from '../../baseCommand.ts';
import { FeedctlError } from '../../engine/model/errors.ts';
import { userArg } from '../../flags.ts';
import { oneLine } from '../../ui/format.ts';

export default class FeedWatch extends BaseCommand {
  static override summary = 'Open a WebSocket as a user and print each post as it is pushed';
  static override description = 'With --json every post is one line of JSON. Ctrl-C ends it.';
  static override args = { user: userArg({ description: 'whose feed', required: true }) };
  static override flags = {
    'gateway-url': Flags.string({ description: 'gateway to connect to; one that is running by default' }),
    count: Flags.integer({ char: 'n', description: 'end after so many posts', min: 1 }),
  };
  static override examples = [
    '<%= config.bin %> feed watch 42',
    '<%= config.bin %> feed watch 42 --count 1 --json',
  ];

  async run(): Promise<void> {
    const { args, flags } = await this.parse(FeedWatch);
    const config = await this.loadConfig(flags);
    const { resolveGatewayUrl } = await import('../../engine/cluster.ts');
    const { issueToken } = await import('../../engine/gateway/auth.ts');
    const { followFeed } = await import('../../engine/live/client.ts');
    const { gatewayUrl, token } = await this.withCluster(flags, async ({ db }) => ({
      gatewayUrl: await resolveGatewayUrl(config, db),
      token: await issueToken(db, args.user),
    }));
    const enough = new AbortController();
    const end = AbortSignal.any([this.signal, enough.signal]);
    process.stdout.once('error', () => enough.abort());
    let seen = 0;
    const socket = await followFeed(gatewayUrl, token, (post) => {
      if (end.aborted) return;
      const line = `${post.createdAt}  ${post.author_user_id}: ${oneLine(post.postText, 200)}`;
      process.stdout.write(`${this.jsonEnabled() ? JSON.stringify(post) : line}\n`);
      seen += 1;
      if (seen === flags.count) enough.abort();
    });
    // Not logToStderr, which is silent with --json: a script has to know from when on posts come.
    process.stderr.write(`Watching the feed of user ${args.user} at ${gatewayUrl}.\n`);
    const lost = await aborted(end, socket.closed);
    socket.close();
    if (lost !== undefined)
      throw new FeedctlError('GATEWAY_UNREACHABLE', `the gateway closed the socket (${lost})`);
  }
}
