import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { queueArg } from '../../cli/flags/queues.ts';
import { counted } from '../../engine/model/counted.ts';
import type { peekQueue } from '../../engine/queues/list.ts';
import { describeContent } from '../../ui/tables/messages.ts';
import { formatBytes, formatCount } from '../../ui/terminal/format.ts';

type Peeked = Awaited<ReturnType<typeof peekQueue>>;

/** Lines of one message; a message may hold 2,000 events. */
const MAX_LINES = 20;

export default class QueuePeek extends BaseCommand {
  static override summary = 'Show messages that wait in a queue, without removing any';
  static override description = `Shows the oldest waiting messages, the same number from each partition.

On RabbitMQ it works only while no worker consumes the queue (\`feedctl fanout pause\`),
and each message shown counts as one of its 100 deliveries.`;
  static override args = { queue: queueArg({ description: 'name of the queue', required: true }) };
  static override flags = {
    limit: Flags.integer({ description: 'maximum messages to show', default: 10, min: 1, max: 1_000 }),
  };
  static override examples = [
    '<%= config.bin %> queue peek events.bulk',
    '<%= config.bin %> queue peek rows.bulk --limit 100 --json',
  ];

  async run(): Promise<Peeked> {
    const { args, flags } = await this.parse(QueuePeek);
    const { peekQueue } = await import('../../engine/queues/list.ts');
    const result = await this.withCluster(flags, (cluster) => peekQueue(cluster, args.queue, flags.limit));
    for (const [i, { publishedAt, deliveries, bytes, content }] of result.messages.entries()) {
      const since = publishedAt ? `, published ${publishedAt.toISOString()}` : '';
      const again = deliveries > 0 ? `, delivered ${counted(deliveries, 'time')} before` : '';
      this.log(`message ${i + 1}: ${content.kind}, ${formatBytes(bytes)}${since}${again}`);
      const lines = describeContent(content);
      for (const line of lines.slice(0, MAX_LINES)) this.log(`  ${line}`);
      if (lines.length > MAX_LINES) this.log(`  and ${formatCount(lines.length - MAX_LINES)} more`);
    }
    if (result.messages.length === 0) this.log('No messages wait.');
    this.logToStderr(`${formatCount(result.messages.length)} of ${formatCount(result.ready)} that wait.`);
    return result;
  }
}
