import { BaseCommand } from '../../cli/baseCommand.ts';
import { userArg } from '../../cli/flags/common.ts';

export default class UserToken extends BaseCommand {
  static override summary = 'Print a token that lets a client act as a user for 12 hours';
  static override args = { user: userArg({ description: 'id of the user', required: true }) };
  static override examples = [
    '<%= config.bin %> user token 42',
    'curl -H "Authorization: Bearer $(<%= config.bin %> user token 42)" http://127.0.0.1:7070/post/feed',
  ];

  async run(): Promise<{ userId: number; token: string }> {
    const { args, flags } = await this.parse(UserToken);
    const { issueToken } = await import('../../engine/gateway/tokens.ts');
    const token = await this.withCluster(flags, (cluster) => issueToken(cluster.db, args.user));
    this.log(token);
    return { userId: args.user, token };
  }
}
