import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { EVENT_TYPES } from '../../engine/model/event.ts';
import { parseId } from '../../engine/model/ids.ts';
import type { ListedEvent, OperationEvent } from '../../engine/monitoring/events.ts';
import { nameOf } from '../../ui/columns/operations.ts';
import { resultText } from '../../ui/tables/result.ts';
import { oneLine } from '../../ui/terminal/format.ts';

export default class EventsTail extends BaseCommand {
  static override summary = 'Show the last events, and with --follow new ones';
  static override description =
    `Includes operations that began, resumed or ended, unless --user or --type is given.
With --json and --follow each event is one line of JSON.`;
  static override flags = {
    limit: Flags.integer({
      char: 'n',
      description: 'number of past events to show first',
      default: 20,
      min: 0,
      max: 10_000,
    }),
    follow: Flags.boolean({ char: 'f', description: 'show new events until Ctrl-C' }),
    user: Flags.string({ description: 'only events of this user' }),
    type: Flags.option({ options: EVENT_TYPES, description: 'only events of this type' })(),
  };
  static override examples = [
    '<%= config.bin %> events tail -n 50',
    '<%= config.bin %> events tail --follow --user 42 --json',
  ];

  async run(): Promise<{ events: ListedEvent[]; operations: OperationEvent[] } | undefined> {
    const { flags } = await this.parse(EventsTail);
    const userId = flags.user === undefined ? undefined : parseId(flags.user, 'user');
    const { tailEvents } = await import('../../engine/monitoring/events.ts');
    const query = {
      limit: flags.limit,
      follow: flags.follow,
      ...(userId !== undefined && { userId }),
      ...(flags.type && { type: flags.type }),
      operations: userId === undefined && flags.type === undefined,
      signal: this.signal,
    };
    const events: ListedEvent[] = [];
    const operations: OperationEvent[] = [];
    const gather = this.jsonEnabled() && !flags.follow;
    await this.withCluster(flags, async (cluster) => {
      for await (const event of tailEvents(cluster.db, query)) {
        if (gather && 'operationId' in event) operations.push(event);
        else if (gather) events.push(event as ListedEvent);
        else if (this.jsonEnabled()) this.printStreamed(event);
        else process.stdout.write(`${this.#line(event)}\n`);
      }
    });
    return gather ? { events, operations } : undefined;
  }

  #line(event: ListedEvent | OperationEvent): string {
    const time = event.occurredAt.toISOString();
    if ('operationId' in event) return [time, ...operationFields(event)].join('  ').trimEnd();
    const { id, type, aggregateId, subjectId, data } = event;
    const state = event.dispatchedAt ? 'dispatched' : 'waiting';
    return [time, id, type, `${aggregateId} -> ${subjectId}`, state, oneLine(JSON.stringify(data), 80)].join(
      '  ',
    );
  }
}

function operationFields(event: OperationEvent): (string | number)[] {
  const { operationId, type, state, who, command, error, result } = event;
  const what = oneLine(command ?? nameOf(event), 80);
  const outcome = error ? error.code : result === null ? '' : oneLine(resultText(result), 80);
  const ended = type === 'operation.ended' ? [state, outcome] : [];
  return [operationId, type, what, `by ${who ?? 'unknown'}`, ...ended];
}
