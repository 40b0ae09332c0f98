import { Args } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { counted } from '../../engine/model/counted.ts';
import { parseId } from '../../engine/model/ids.ts';
import type { showDeadLetter } from '../../engine/queues/deadLetters.ts';
import { describeContent } from '../../ui/tables/messages.ts';
import { oneLine } from '../../ui/terminal/format.ts';

type Shown = Awaited<ReturnType<typeof showDeadLetter>>;

export default class DlqShow extends BaseCommand {
  static override summary = 'Show one dead letter with its reason and content';
  static override args = { id: Args.string({ description: 'id of the dead letter', required: true }) };
  static override examples = ['<%= config.bin %> dlq show 81203', '<%= config.bin %> dlq show 81203 --json'];

  async run(): Promise<Shown> {
    const { args, flags } = await this.parse(DlqShow);
    const id = parseId(String(args.id), 'dead letter');
    const { showDeadLetter } = await import('../../engine/queues/deadLetters.ts');
    const letter = await this.withCluster(flags, (cluster) => showDeadLetter(cluster, id));
    this.log(`dead letter ${letter.id} of ${letter.queue}, ${letter.bytes} bytes`);
    this.log(
      `dead since ${letter.diedAt.toISOString()}, after ${counted(letter.attempts, 'failed attempt')}`,
    );
    this.log(`reason: ${oneLine(letter.reason, 2_000)}`);
    for (const line of describeContent(letter.content)) this.log(line);
    return letter;
  }
}
