import { setTimeout as sleep } from 'node:timers/promises';
import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { userArg } from '../../cli/flags/common.ts';
import { aborted } from '../../cli/signals.ts';
import type { PushedPost } from '../../engine/live/client.ts';
import { isFeedctlError } from '../../engine/model/errors.ts';
import { backoffMs } from '../../engine/util/backoff.ts';
import { oneLine } from '../../ui/terminal/format.ts';

/** Enough for another gateway to take over, or for the same one to restart. */
const MAX_TRIES = 6;

export default class FeedWatch extends BaseCommand {
  static override summary = 'Open a WebSocket as a user and print each post as it is pushed';
  static override description =
    `With --json each post is one line of JSON. If the gateway closes the socket, it
connects again, to the same gateway or another one, and continues there.

Ctrl-C ends it.`;
  static override args = {
    user: userArg({ description: 'id of the user whose feed it is', required: true }),
  };
  static override flags = {
    'gateway-url': Flags.string({ description: 'URL of the gateway; default: a running one' }),
    count: Flags.integer({ char: 'n', description: 'number of posts after which it ends', min: 1 }),
  };
  static override examples = [
    '<%= config.bin %> feed watch 42',
    '<%= config.bin %> feed watch 42 --count 1 --json',
  ];

  async run(): Promise<void> {
    const { args, flags } = await this.parse(FeedWatch);
    const config = await this.loadConfig(flags);
    const { resolveGatewayUrl } = await import('../../engine/cluster/cluster.ts');
    const { issueToken } = await import('../../engine/gateway/tokens.ts');
    const { followFeed } = await import('../../engine/live/client.ts');
    const enough = new AbortController();
    const end = AbortSignal.any([this.watchSignal(), enough.signal]);
    let seen = 0;
    const connect = async (after?: string) => {
      const { gatewayUrl, token } = await this.withCluster(flags, async ({ db }) => ({
        gatewayUrl: await resolveGatewayUrl(config, db),
        token: await issueToken(db, args.user),
      }));
      const onPost = (post: PushedPost) => {
        if (end.aborted) return;
        const line = `${post.createdAt}  ${post.author_user_id}: ${oneLine(post.postText, 200)}`;
        process.stdout.write(`${this.jsonEnabled() ? JSON.stringify(post) : line}\n`);
        seen += 1;
        if (seen === flags.count) enough.abort();
      };
      const socket = await followFeed(gatewayUrl, token, onPost, after);
      // Printed even with --json, unlike logToStderr: a script has to know that the socket is open.
      process.stderr.write(`Watching the feed of user ${args.user} at ${gatewayUrl}.\n`);
      if (!socket.recovered) process.stderr.write('Posts were missed: read the feed.\n');
      return socket;
    };
    for (let socket = await connect(); ; ) {
      const lost = await aborted(end, socket.closed);
      socket.close();
      if (lost === undefined) return;
      process.stderr.write(`The gateway closed the socket (${lost}).\n`);
      const next = await reconnect(() => connect(socket.cursor), end);
      if (!next) return;
      socket = next;
    }
  }
}

/** Tries with growing pauses. Returns undefined if the signal aborts. */
async function reconnect<T>(connect: () => Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  for (let failures = 1; ; failures += 1) {
    await sleep(backoffMs(failures), undefined, { signal }).catch(() => {});
    if (signal.aborted) return undefined;
    try {
      return await connect();
    } catch (error) {
      if (failures === MAX_TRIES || !isFeedctlError(error, 'GATEWAY_UNREACHABLE')) throw error;
    }
  }
}
