import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { listFlags } from '../../cli/flags/output.ts';
import { listUsers, USER_ORDERS, type User } from '../../engine/store/users.ts';
import { formatCount, oneLine } from '../../ui/terminal/format.ts';

export default class UserList extends BaseCommand {
  static override summary = 'List users';
  static override flags = {
    ...listFlags,
    limit: Flags.integer({ description: 'maximum users to list', default: 50, min: 1, max: 10_000 }),
    after: Flags.string({ aliases: ['cursor'], description: '`nextCursor` of the previous page' }),
    sort: Flags.option({ options: USER_ORDERS, description: 'order of the users', default: 'id' as const })(),
  };
  static override examples = [
    '<%= config.bin %> user list',
    '<%= config.bin %> user list --sort followers --limit 10 --json',
  ];

  async run(): Promise<{ users: User[]; total: number; nextCursor: string | null }> {
    const { flags } = await this.parse(UserList);
    const query = {
      limit: flags.limit,
      order: flags.sort,
      ...(flags.after !== undefined && { cursor: flags.after }),
    };
    const result = await this.withCluster(flags, (cluster) => listUsers(cluster.db, query));
    const rows = result.users.map((user) => [
      String(user.id),
      oneLine(`${user.firstName} ${user.secondName}`.trim(), 40),
      user.followerCount,
      user.pushState,
    ]);
    await this.table(['user', 'name', 'followers', 'push state'], rows, { empty: 'No users.' });
    this.logToStderr(`${formatCount(result.users.length)} of ${formatCount(result.total)} users.`);
    if (result.nextCursor) this.logToStderr(`More: --after ${result.nextCursor}`);
    return result;
  }
}
