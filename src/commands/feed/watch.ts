import { setTimeout as sleep } from 'node:timers/promises';
import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { userArg } from '../../cli/flags/common.ts';
import { aborted } from '../../cli/signals.ts';
import type { PushedEdit, PushedPost } from '../../engine/live/client.ts';
import { isFeedctlError } from '../../engine/model/errors.ts';
import { backoffMs } from '../../engine/util/backoff.ts';
import { oneLine } from '../../ui/terminal/format.ts';

/** Enough for another gateway to take over, or for the same one to restart. */
const MAX_TRIES = 6;

export default class FeedWatch extends BaseCommand {
  static override summary = 'Open a WebSocket as a user and print each post as it is pushed';
  static override description =
    `An edit of a post is printed too. With --json each line is the JSON of a post, or of
an edit, which has "edited": true. If the gateway closes the socket, it connects again, to the same
gateway or another one, and continues there.

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
    const { resolveGatewayUrl } = await import('../../engine/cluster/cluster.ts');
    const { issueToken } = await import('../../engine/gateway/tokens.ts');
    const { followFeed } = await import('../../engine/live/client.ts');
    const enough = new AbortController();
    const end = AbortSignal.any([this.watchSignal(), enough.signal]);
    let seen = 0;
    const connect = async (after?: string) => {
      const { gatewayUrl, token } = await this.withCluster(flags, async (cluster) => ({
        gatewayUrl: await resolveGatewayUrl(cluster),
        token: await issueToken(cluster.db, args.user),
      }));
      const print = (post: PushedPost & { edited?: true }, mark = '') => {
        if (this.jsonEnabled()) return this.printStreamed(post);
        const line = `${post.createdAt}  ${post.author_user_id}: ${oneLine(post.postText, 200)}${mark}`;
        process.stdout.write(`${line}\n`);
      };
      const onPost = (post: PushedPost) => {
        if (end.aborted) return;
        print(post);
        seen += 1;
        if (seen === flags.count) enough.abort();
      };
      const onEdited = (edit: PushedEdit) => {
        if (!end.aborted) print({ ...edit, edited: true }, ' (edited)');
      };
      const socket = await followFeed(gatewayUrl, token, onPost, { after, onEdited });
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
