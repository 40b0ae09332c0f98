import { BaseCommand } from '../../baseCommand.ts';
import { getUser, type User } from '../../engine/store/users.ts';
import { userArg } from '../../flags.ts';
import { formatCount, oneLine } from '../../ui/format.ts';

export default class UserShow extends BaseCommand {
  static override summary = 'Show a user';
  static override args = { user: userArg({ description: 'id of the user', required: true }) };
  static override examples = ['<%= config.bin %> user show 42', '<%= config.bin %> user show 42 --json'];

  async run(): Promise<User> {
    const { args, flags } = await this.parse(UserShow);
    const user = await this.withCluster(flags, (cluster) => getUser(cluster.db, args.user));
    const name = oneLine(`${user.firstName} ${user.secondName}`.trim(), 200) || '(no name)';
    this.log(
      `user        ${user.id}\nname        ${name}\nfollowers   ${formatCount(user.followerCount)}\n` +
        `push state  ${user.pushState}\nfeed floor  ${user.feedFloor}\ncreated     ${user.createdAt.toISOString()}`,
    );
    return user;
  }
}
