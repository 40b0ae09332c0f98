import { Args, Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag } from '../../cli/flags/common.ts';
import { parseId } from '../../engine/model/ids.ts';
import type { User } from '../../engine/store/users.ts';

export default class UserCreate extends BaseCommand {
  static override summary = 'Create a user';
  static override args = {
    firstName: Args.string({ description: 'first name' }),
    secondName: Args.string({ description: 'second name' }),
  };
  static override flags = {
    id: Flags.string({ description: 'id of the user; default: a new one' }),
    'dry-run': dryRunFlag,
  };
  static override examples = [
    '<%= config.bin %> user create Ada Lovelace',
    '<%= config.bin %> user create --id 42 --json',
  ];

  async run(): Promise<User> {
    const { args, flags } = await this.parse(UserCreate);
    const id = flags.id === undefined ? undefined : parseId(flags.id, 'user');
    const { createUser } = await import('../../engine/social/users.ts');
    const user = await this.withCluster(flags, (cluster) =>
      createUser(cluster, {
        ...(id !== undefined && { id }),
        ...(args.firstName !== undefined && { firstName: args.firstName }),
        ...(args.secondName !== undefined && { secondName: args.secondName }),
        dryRun: flags['dry-run'],
      }),
    );
    this.log(flags['dry-run'] ? `Would create user ${user.id}.` : `Created user ${user.id}.`);
    return user;
  }
}
