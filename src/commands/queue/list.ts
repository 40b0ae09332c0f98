import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { secondsFlag } from '../../cli/flags/common.ts';
import { parseQueue } from '../../cli/flags/queues.ts';
import type { Cluster } from '../../engine/cluster/cluster.ts';
import type { Above, QueueDetail, QueueView } from '../../engine/queues/list.ts';
import { laneNotes } from '../../ui/tables/lanes.ts';
import { aboveLine, detailLines, queuesTable } from '../../ui/tables/queues.ts';
import { formatCount, formatDuration } from '../../ui/terminal/format.ts';
import { openRepaint } from '../../ui/terminal/repaint.ts';
import type { TableOptions } from '../../ui/terminal/table.ts';

/** Messages of each queue that --detail looks into. */
const LOOKED_INTO = 200;

interface Listed extends QueueView {
  readonly details?: readonly QueueDetail[];
  readonly above?: readonly Above[];
  /** Of --until: how long it took. */
  readonly seconds?: number;
}

export default class QueueList extends BaseCommand {
  static override summary =
    'Show the backlog: what waits in each queue, how fast it moves, and when it will be gone';
  static override description =
    'Rates are of the interval, of messages: one may hold 2,000 events or 8,192 rows. What left a queue is counted by who consumes it and noted once a second. With limits it exits 1 where a queue is above one, for monitoring; an age that cannot be told, of messages on RabbitMQ that nobody consumes, counts as above. --until empty waits until two looks in a row have found nothing, in the outbox neither, and exits 1 at the timeout, 3 after Ctrl-C. With --watch --json each look is a line of its own. --detail reads the first 200 messages of each queue: on RabbitMQ as `queue peek` does, where nobody consumes them.';
  static override usage =
    'queue list [--queue <value>...] [--interval <value>] [--detail] [--max-ready <value>] [--max-age <15m>] | [--watch] [--until empty [--timeout <value>]]';
  static override flags = {
    queue: Flags.string({ description: 'only this queue', multiple: true }),
    detail: Flags.boolean({ description: 'which authors and posts make up what waits' }),
    interval: Flags.integer({
      description: 'seconds between looks; 0 for one look without rates',
      default: 2,
      min: 0,
      max: 3_600,
    }),
    watch: Flags.boolean({ description: 'look again and again, until Ctrl-C' }),
    until: Flags.option({
      options: ['empty'] as const,
      description: 'wait until nothing waits or is in hand',
    })(),
    timeout: Flags.integer({ description: 'seconds to wait at most', dependsOn: ['until'], min: 1 }),
    'max-ready': Flags.integer({
      description: 'exit 1 where more messages wait in a queue',
      min: 0,
      exclusive: ['watch', 'until'],
    }),
    'max-age': secondsFlag({
      description: 'exit 1 where the oldest message of a queue is older',
      exclusive: ['watch', 'until'],
    }),
  };
  static override examples = [
    '<%= config.bin %> queue list --detail',
    '<%= config.bin %> queue list --watch --until empty --timeout 600',
    '<%= config.bin %> queue list --max-ready 10000 --max-age 5m --json',
  ];

  async run(): Promise<Listed | undefined> {
    const { flags } = await this.parse(QueueList);
    const only = flags.queue?.map(parseQueue);
    const { aboveLimits, listQueues, queueDetails } = await import('../../engine/queues/list.ts');
    return this.withCluster(flags, async (cluster) => {
      if (flags.watch || flags.until) return this.#wait(cluster, { ...flags, only });
      const { signal } = this;
      const view = await listQueues(cluster, { intervalMs: flags.interval * 1_000, signal, only });
      const details = flags.detail ? await queueDetails(cluster, view.queues, LOOKED_INTO) : undefined;
      const limits = {
        maxReady: flags['max-ready'],
        maxAgeMs: flags['max-age'] === undefined ? undefined : flags['max-age'] * 1_000,
      };
      const limited = limits.maxReady !== undefined || limits.maxAgeMs !== undefined;
      const above = limited ? aboveLimits(view.queues, limits) : undefined;
      this.log(textOf(view, { borders: Boolean(process.stdout.isTTY) }));
      for (const line of detailLines(details ?? [])) this.log(line);
      for (const one of above ?? []) this.logToStderr(aboveLine(one));
      if (above && above.length > 0) process.exitCode = 1;
      return { ...view, ...(details && { details }), ...(above && { above }) };
    });
  }

  /** Looks until the queues are empty, the time is up, or a signal comes. */
  async #wait(
    cluster: Cluster,
    flags: {
      only: readonly string[] | undefined;
      interval: number;
      watch: boolean | undefined;
      until: 'empty' | undefined;
      timeout: number | undefined;
    },
  ): Promise<Listed | undefined> {
    const { FIRST_LOOK: NOTHING_SEEN, watchQueues } = await import('../../engine/queues/list.ts');
    const signal = this.watchSignal();
    const intervalMs = Math.max(1, flags.interval) * 1_000;
    const repaint = openRepaint(process.stdout);
    const progress = this.progress('emptying');
    const startedAt = performance.now();
    const seconds = () => Math.round((performance.now() - startedAt) / 100) / 10;
    let view = NOTHING_SEEN;
    let most = 0;
    let outcome: 'empty' | 'late' | 'stopped' = 'stopped';
    let noted = '';
    for await (view of watchQueues(cluster, { intervalMs, signal, only: flags.only })) {
      const left = view.queues.reduce((sum, row) => sum + row.ready + row.unacked, 0);
      most = Math.max(most, left);
      if (flags.watch && this.jsonEnabled()) process.stdout.write(`${JSON.stringify(view)}\n`);
      // A line for each field would not fit on the screen.
      else if (flags.watch) repaint(textOf(view, { borders: Boolean(process.stdout.isTTY), rowsOnly: true }));
      else {
        progress.update({ done: most - left, total: most, unit: 'messages' });
        const notes = laneNotes(view.lanes).join('\n');
        if (notes !== noted) this.logToStderr(notes);
        noted = notes;
      }
      if (flags.until && view.empty) outcome = 'empty';
      else if (flags.timeout !== undefined && seconds() >= flags.timeout) outcome = 'late';
      else continue;
      break;
    }
    progress.end();
    if (!flags.until) return undefined;
    const left = view.queues.reduce((sum, row) => sum + row.ready + row.unacked, 0);
    if (outcome !== 'empty') {
      this.logToStderr(
        `${outcome === 'late' ? 'The time is up' : 'Stopped'}: ${formatCount(left)} message(s) left.`,
      );
      process.exitCode = outcome === 'late' ? 1 : 3;
    }
    if (flags.watch) return undefined;
    this.log(
      outcome === 'empty'
        ? `Empty after ${formatDuration(seconds())}.`
        : textOf(view, { borders: Boolean(process.stdout.isTTY) }),
    );
    return { ...view, seconds: seconds() };
  }
}

const textOf = (view: QueueView, options: TableOptions): string =>
  [queuesTable(view.queues, options), ...laneNotes(view.lanes)].join('\n');
