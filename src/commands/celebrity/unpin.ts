import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag, userArg } from '../../cli/flags/common.ts';
import { pinPushState } from '../../engine/store/celebrities.ts';

export default class CelebrityUnpin extends BaseCommand {
  static override summary = 'Let evaluations change an author who was marked or unmarked by hand';
  static override description = 'Changes nothing until the next evaluation.';
  static override args = { user: userArg({ description: 'id of the author', required: true }) };
  static override flags = { 'dry-run': dryRunFlag };
  static override examples = [
    '<%= config.bin %> celebrity unpin 88',
    '<%= config.bin %> celebrity unpin 88 --json',
  ];

  async run(): Promise<{ userId: number; changed: boolean; dryRun: boolean }> {
    const { args, flags } = await this.parse(CelebrityUnpin);
    const { user: userId } = args;
    const dryRun = flags['dry-run'];
    const changed = await this.withCluster(flags, ({ db }) =>
      dryRun
        ? db.rehearse((session) => pinPushState(session, userId, false))
        : pinPushState(db, userId, false),
    );
    if (!changed) this.log(`Nothing to change: user ${userId} is not pinned.`);
    else this.log(`${dryRun ? 'Would unpin' : 'Unpinned'} user ${userId}.`);
    return { userId, changed, dryRun };
  }
}
