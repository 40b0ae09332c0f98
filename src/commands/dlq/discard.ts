import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag, yesFlag } from '../../cli/flags/common.ts';
import { chosenDeadLetters, deadLetterArg, deadLetterFlags } from '../../cli/flags/deadLetters.ts';
import { counted } from '../../engine/model/counted.ts';
import type { SettledLetters } from '../../engine/queues/deadLetters.ts';
import { formatCount } from '../../ui/terminal/format.ts';

export default class DlqDiscard extends BaseCommand {
  static override summary = 'Discard dead letters';
  static override description =
    `Their events stay in the log for 30 days: \`feedctl events redispatch\` plans them again.
Exits 3 if it ends before all are discarded.`;
  static override args = { id: deadLetterArg };
  static override flags = {
    ...deadLetterFlags,
    all: Flags.boolean({ description: 'every dead letter' }),
    'dry-run': dryRunFlag,
    yes: yesFlag,
  };
  static override examples = [
    '<%= config.bin %> dlq discard 81203',
    '<%= config.bin %> dlq discard --queue live --yes --json',
  ];

  async run(): Promise<SettledLetters> {
    const { args, flags } = await this.parse(DlqDiscard);
    const filter = chosenDeadLetters(args.id, flags);
    const { discardDeadLetters } = await import('../../engine/queues/deadLetters.ts');
    const { signal } = this;
    const result = await this.withCluster(flags, async (cluster) => {
      const plan = await discardDeadLetters(cluster, filter, { signal, dryRun: true });
      if (flags['dry-run'] || plan.matched === 0) return plan;
      await this.confirm(`Discard ${counted(plan.matched, 'dead letter')}?`, flags.yes);
      return discardDeadLetters(cluster, filter, { signal, dryRun: false });
    });
    if (flags['dry-run'])
      this.log(`Would discard ${counted(result.matched, 'dead letter')}. Nothing was changed.`);
    else this.log(`Discarded ${formatCount(result.done)} of ${counted(result.matched, 'dead letter')}.`);
    if (result.stopped !== undefined) {
      this.logToStderr(`Stopped early: ${result.stopped}`);
      process.exitCode = 3;
    }
    return { ...result, dryRun: flags['dry-run'] };
  }
}
