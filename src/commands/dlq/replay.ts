import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag } from '../../cli/flags/common.ts';
import { chosenDeadLetters, deadLetterArg, deadLetterFlags } from '../../cli/flags/deadLetters.ts';
import { counted } from '../../engine/model/counted.ts';
import type { SettledLetters } from '../../engine/queues/deadLetters.ts';
import { formatCount } from '../../ui/terminal/format.ts';

export default class DlqReplay extends BaseCommand {
  static override summary = 'Return dead letters to their queues';
  static override description =
    `A dead letter is removed when its message is published, so it is safe to run this
again. Dead letters of gateways are skipped, because their sockets have read the feed
since.

Exits 3 if it ends before all are replayed.`;
  static override args = { id: deadLetterArg };
  static override flags = {
    ...deadLetterFlags,
    all: Flags.boolean({ description: 'every dead letter' }),
    rate: Flags.integer({ description: 'maximum messages a second', min: 1 }),
    'dry-run': dryRunFlag,
  };
  static override examples = [
    '<%= config.bin %> dlq replay 81203',
    '<%= config.bin %> dlq replay --queue rows.live --from 1h --rate 50 --json',
  ];

  async run(): Promise<SettledLetters> {
    const { args, flags } = await this.parse(DlqReplay);
    const filter = chosenDeadLetters(args.id, flags);
    const { replayDeadLetters } = await import('../../engine/queues/deadLetters.ts');
    const { signal } = this;
    const result = await this.withProgress('replaying', (progress) =>
      this.withCluster(flags, (cluster) =>
        replayDeadLetters(cluster, filter, {
          signal,
          dryRun: flags['dry-run'],
          ...(flags.rate !== undefined && { rate: flags.rate }),
          onProgress: (done, total) => progress.update({ done, total, unit: 'messages' }),
        }),
      ),
    );
    if (result.dryRun)
      this.log(`Would replay ${counted(result.matched, 'dead letter')}. Nothing was changed.`);
    else this.log(`Replayed ${formatCount(result.done)} of ${counted(result.matched, 'dead letter')}.`);
    if (result.ofGateways > 0)
      this.logToStderr(
        `Skipped ${formatCount(result.ofGateways)} of gateways: \`feedctl dlq discard --queue live\`.`,
      );
    if (result.stopped !== undefined) {
      this.logToStderr(`Stopped early: ${result.stopped}`);
      process.exitCode = 3;
    }
    return result;
  }
}
