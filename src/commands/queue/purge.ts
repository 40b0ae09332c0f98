import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag } from '../../cli/flags/common.ts';
import { durableQueueArg } from '../../cli/flags/queues.ts';
import type { Purged, PurgePlan } from '../../engine/queues/purge.ts';
import { describeComposition } from '../../ui/tables/messages.ts';
import { formatCount } from '../../ui/terminal/format.ts';

type Result = ((PurgePlan & { dryRun: true }) | (Purged & { dryRun: false })) & { mend: string };

export default class QueuePurge extends BaseCommand {
  static override summary = 'Throw away what waits in a queue';
  static override description =
    'Only while no worker takes messages of it: `feedctl fanout pause` its lane first, for cleanup both. Posts and follows stay; what is lost is their way into feeds, and the command that this prints brings it back: it dispatches the events behind the messages again, as far as the log goes back, and tells no socket. Of cleanup the removal of rows of unfollows and deletions is lost: no reader is shown such a row, and the same command removes them. Whoever waits for what was in the queue goes on. What a purge is about to throw away is noted in the operations of the cluster first. Exits 3 where Ctrl-C ended it early.';
  static override args = { queue: durableQueueArg({ description: 'name of the queue', required: true }) };
  static override flags = {
    confirm: Flags.string({ description: 'name of the queue once more, to confirm without being asked' }),
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
        this.log(`Would throw away ${formatCount(plan.messages)} message(s) of ${queue}. The first of them:`);
        for (const line of describeComposition(plan.composition)) this.log(line);
        return { ...plan, mend: this.#mend(plan.redispatch), dryRun: true as const };
      }
      await this.confirmName(
        `This throws away ${formatCount(plan.messages)} message(s) of ${queue}.`,
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
      const mend = this.#mend(result.redispatch);
      this.log(`Threw away ${formatCount(result.messages)} message(s) of ${queue}.`);
      for (const line of describeComposition(result.composition)) this.log(line);
      if (result.messages > 0) this.log(`To bring back what they were for: ${mend}`);
      if (result.stopped) {
        this.logToStderr('Ended early: the rest still waits.');
        process.exitCode = 3;
      }
      return { ...result, mend, dryRun: false as const };
    });
  }

  #mend(span: PurgePlan['redispatch']): string {
    const { bin } = this.config;
    return span
      ? `${bin} events redispatch --from-id ${span.fromId} --to-id ${span.toId}`
      : `${bin} feed verify --all --repair`;
  }
}
