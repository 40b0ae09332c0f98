import { BaseCommand } from '../../cli/baseCommand.ts';
import { userArg } from '../../cli/flags/common.ts';
import { counted } from '../../engine/model/counted.ts';
import type { UserDetails } from '../../engine/monitoring/userDetails.ts';
import { formatCount, oneLine } from '../../ui/terminal/format.ts';

export default class UserShow extends BaseCommand {
  static override summary = 'Show a user: followers, push state, feed, cache and open connections';
  static override description =
    `Asks every gateway for connections. Those of a gateway that does not answer are
missing.`;
  static override args = { user: userArg({ description: 'id of the user', required: true }) };
  static override examples = ['<%= config.bin %> user show 42', '<%= config.bin %> user show 42 --json'];

  async run(): Promise<UserDetails> {
    const { args, flags } = await this.parse(UserShow);
    const { userDetails } = await import('../../engine/monitoring/userDetails.ts');
    const user = await this.withCluster(flags, (cluster) => userDetails(cluster, args.user));
    const { feed, cache, connections } = user;
    const held = cache.entries === null ? 'not held' : `${formatCount(cache.entries)} entries`;
    const lines: [string, string][] = [
      ['user', String(user.id)],
      ['name', oneLine(`${user.firstName} ${user.secondName}`.trim(), 200) || '(no name)'],
      ['followers', formatCount(user.followerCount)],
      ['following', formatCount(user.following)],
      ['posts', formatCount(user.posts)],
      ['push state', user.pushState],
      ['feed', feed.materialized ? `${formatCount(feed.items)} rows` : 'not materialized'],
      ['feed floor', String(feed.floor)],
      ['cache', cache.kind === 'memory' ? 'in the memory of each gateway' : held],
      ['connections', formatCount(connections.connections.length)],
      ['created', user.createdAt.toISOString()],
    ];
    this.log(lines.map(([name, value]) => `${name.padEnd(12)}${value}`).join('\n'));
    for (const { gatewayUrl, since, delivered } of connections.connections)
      this.log(`  ${gatewayUrl} since ${since}, ${counted(delivered, 'post')} delivered`);
    for (const { reason } of connections.unreachable) this.logToStderr(`Not known: ${reason}`);
    return user;
  }
}
