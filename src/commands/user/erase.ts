import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag, userArg } from '../../cli/flags/common.ts';
import type { ErasePlan, EraseResult } from '../../engine/erasure/eraseUser.ts';
import { counted } from '../../engine/model/counted.ts';
import { formatCount } from '../../ui/terminal/format.ts';

type UserEraseResult = EraseResult & { readonly dryRun: boolean };

export default class UserErase extends BaseCommand {
  static override summary = 'Erase a user and all data about them, permanently';
  static override description =
    `Waits for rows in flight, so workers have to run. A final scan of all tables and the
cache exits 1 if anything is left.

After an interruption, run it again; the log of operations keeps the id of the user.`;
  static override args = { user: userArg({ description: 'id of the user', required: true }) };
  static override flags = {
    'dry-run': dryRunFlag,
    yes: Flags.string({ char: 'y', description: 'id of the user again, to confirm without being asked' }),
  };
  static override examples = [
    '<%= config.bin %> user erase 42 --dry-run',
    '<%= config.bin %> user erase 42 --yes 42 --json',
  ];

  async run(): Promise<UserEraseResult> {
    const { args, flags } = await this.parse(UserErase);
    const { user: userId } = args;
    const dryRun = flags['dry-run'];
    const { ERASE_STEPS, eraseUser, planErasure } = await import('../../engine/erasure/eraseUser.ts');
    const { signal } = this;
    const result = await this.withProgress('erasing', (progress) =>
      this.withCluster(flags, async (cluster): Promise<UserEraseResult> => {
        const plan = await planErasure(cluster.db, userId);
        if (dryRun) return { ...plan, left: [], dryRun };
        const question = `This would erase user ${userId} permanently: ${describe(plan)}.`;
        await this.confirmName(question, String(userId), flags.yes);
        const onStep = (step: string, done: number) =>
          progress.update({ done, total: ERASE_STEPS.length + 1, unit: `steps (${step})` });
        return {
          ...(await eraseUser(cluster, userId, { signal, onStep, onResume: this.onResume })),
          dryRun,
        };
      }),
    );
    if (dryRun) this.log(`Would erase user ${userId}: ${describe(result)}. Nothing was changed.`);
    else if (result.left.length === 0)
      this.log(`Erased user ${userId}: ${describe(result)}. No data is left.`);
    for (const { where, count } of result.left)
      this.logToStderr(`Left: ${formatCount(count)} in ${where}; run it again.`);
    if (result.left.length > 0) process.exitCode = 1;
    return result;
  }
}

const describe = ({ posts, followers, following, feedItems, events }: ErasePlan): string =>
  [
    counted(posts, 'post'),
    counted(followers, 'follower'),
    `${formatCount(following)} followed`,
    counted(feedItems, 'feed row'),
    counted(events, 'event'),
  ].join(', ');
