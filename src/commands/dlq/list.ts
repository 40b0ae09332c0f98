import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { deadLetterFilter, deadLetterFlags } from '../../cli/flags/deadLetters.ts';
import { listFlags } from '../../cli/flags/output.ts';
import { counted } from '../../engine/model/counted.ts';
import type { DeadLetter } from '../../engine/store/deadLetters.ts';
import { formatCount, oneLine } from '../../ui/terminal/format.ts';

const REASON_WIDTH = 80;

export default class DlqList extends BaseCommand {
  static override summary = 'List dead letters, with the reason of each';
  static override description =
    `Oldest first. Moves the dead letters of RabbitMQ into the database, where they can be
inspected.`;
  static override flags = {
    ...listFlags,
    ...deadLetterFlags,
    limit: Flags.integer({ description: 'maximum dead letters to list', default: 50, min: 1, max: 10_000 }),
  };
  static override examples = [
    '<%= config.bin %> dlq list --queue events --from 2h',
    '<%= config.bin %> dlq list --reason checksum --json',
  ];

  async run(): Promise<{ total: number; letters: DeadLetter[] }> {
    const { flags } = await this.parse(DlqList);
    const { listDeadLetters } = await import('../../engine/queues/deadLetters.ts');
    const result = await this.withCluster(flags, (cluster) =>
      listDeadLetters(cluster, deadLetterFilter(flags), flags.limit),
    );
    const rows = result.letters.map((letter) => [
      String(letter.id),
      letter.queue,
      letter.diedAt.toISOString(),
      letter.attempts,
      letter.bytes,
      oneLine(letter.reason, REASON_WIDTH),
    ]);
    await this.table(['id', 'queue', 'died', 'attempts', 'bytes', 'reason'], rows, {
      empty: 'No dead letters.',
    });
    if (rows.length > 0)
      this.logToStderr(`${formatCount(rows.length)} of ${counted(result.total, 'dead letter')}.`);
    return result;
  }
}
