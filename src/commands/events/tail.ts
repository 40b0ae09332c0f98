import { Flags } from '@oclif/core';
import { BaseCommand } from '../../baseCommand.ts';
import type { ListedEvent } from '../../engine/admin/eventsTail.ts';
import { EVENT_TYPES } from '../../engine/model/event.ts';
import { parseId } from '../../engine/model/ids.ts';
import { oneLine } from '../../ui/format.ts';

export default class EventsTail extends BaseCommand {
  static override summary = 'Show the last events, and with --follow those that come';
  static override description = 'With --json and --follow every event is one line of JSON.';
  static override flags = {
    limit: Flags.integer({
      char: 'n',
      description: 'events to begin with',
      default: 20,
      min: 0,
      max: 10_000,
    }),
    follow: Flags.boolean({ char: 'f', description: 'go on until Ctrl-C' }),
    user: Flags.string({ description: 'only those of this user' }),
    type: Flags.option({ options: EVENT_TYPES, description: 'only those of this type' })(),
  };
  static override examples = [
    '<%= config.bin %> events tail -n 50',
    '<%= config.bin %> events tail --follow --user 42 --json',
  ];

  async run(): Promise<{ events: ListedEvent[] } | undefined> {
    const { flags } = await this.parse(EventsTail);
    const userId = flags.user === undefined ? undefined : parseId(flags.user, 'user');
    const { tailEvents } = await import('../../engine/admin/eventsTail.ts');
    const query = {
      limit: flags.limit,
      follow: flags.follow,
      ...(userId !== undefined && { userId }),
      ...(flags.type && { type: flags.type }),
      signal: this.signal,
    };
    const events: ListedEvent[] = [];
    const gather = this.jsonEnabled() && !flags.follow;
    await this.withCluster(flags, async (cluster) => {
      for await (const event of tailEvents(cluster.db, query)) {
        if (gather) events.push(event);
        else process.stdout.write(`${this.#line(event)}\n`);
      }
    });
    return gather ? { events } : undefined;
  }

  #line(event: ListedEvent): string {
    if (this.jsonEnabled()) return JSON.stringify(event);
    const state = event.dispatchedAt ? 'dispatched' : 'waiting';
    const data = oneLine(JSON.stringify(event.data), 80);
    return `${event.occurredAt.toISOString()}  ${event.id}  ${event.type}  ${event.aggregateId} -> ${event.subjectId}  ${state}  ${data}`;
  }
}
