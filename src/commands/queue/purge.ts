import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag } from '../../cli/flags/common.ts';
import { durableQueueArg } from '../../cli/flags/queues.ts';
import { counted } from '../../engine/model/counted.ts';
import type { Purged, PurgePlan } from '../../engine/queues/purge.ts';
import { describeComposition } from '../../ui/tables/messages.ts';

type Result = ((PurgePlan & { dryRun: true }) | (Purged & { dryRun: false })) & { mend: string };

export default class QueuePurge extends BaseCommand {
  static override summary = 'Remove all messages that wait in a queue';
  static override description =
    `Pause its lane first (\`feedctl fanout pause\`), for cleanup both lanes. Posts and follows
stay, and the printed command does the work of the removed messages again.

Exits 3 if Ctrl-C ended it early.`;
  static override args = { queue: durableQueueArg({ description: 'name of the queue', required: true }) };
  static override flags = {
    confirm: Flags.string({ description: 'name of the queue again, to confirm without being asked' }),
    'dry-run': dryRunFlag,
  };
  static override examples = [
    '<%= config.bin %> queue purge rows.bulk --dry-run',
    '<%= config.bin %> queue purge rows.bulk --confirm rows.bulk --json',
  ];

  async run(): Promise<Result> {
    const { args, flags } = await this.parse(QueuePurge);
    const { queue } = args;
    const { planPurge, purgeQueue } = await import('../../engine/queues/purge.ts');
    const { signal } = this;
    return this.withCluster(flags, async (cluster) => {
      const plan = await planPurge(cluster, queue);
      if (flags['dry-run']) {
        this.log(`Would remove ${counted(plan.messages, 'message')} of ${queue}. The first of them:`);
        for (const line of describeComposition(plan.composition)) this.log(line);
        return { ...plan, mend: this.#fix(plan.redispatch), dryRun: true as const };
      }
      await this.confirmName(
        `This would remove ${counted(plan.messages, 'message')} of ${queue}.`,
        queue,
        flags.confirm,
        '--confirm',
      );
      const result = await this.withProgress('purging', (progress) =>
        purgeQueue(cluster, queue, {
          signal,
          onProgress: (done) => progress.update({ done, total: plan.messages, unit: 'messages' }),
        }),
      );
      const mend = this.#fix(result.redispatch);
      this.log(`Removed ${counted(result.messages, 'message')} of ${queue}.`);
      for (const line of describeComposition(result.composition)) this.log(line);
      if (result.messages > 0) this.log(`To bring back what they were for: ${mend}`);
      if (result.stopped) {
        this.logToStderr('Stopped early: the other messages still wait.');
        process.exitCode = 3;
      }
      return { ...result, mend, dryRun: false as const };
    });
  }

  #fix(span: PurgePlan['redispatch']): string {
    const { bin } = this.config;
    return span
      ? `${bin} events redispatch --from-id ${span.fromId} --to-id ${span.toId}`
      : `${bin} feed verify --all --repair`;
  }
}
