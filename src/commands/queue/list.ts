import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { secondsFlag } from '../../cli/flags/common.ts';
import { parseQueue } from '../../cli/flags/queues.ts';
import { messagesLeft, watchUntil } from '../../cli/queueWatch.ts';
import type { Cluster } from '../../engine/cluster/cluster.ts';
import type { Above, QueueDetail, QueueView } from '../../engine/queues/list.ts';
import { laneNotes } from '../../ui/tables/lanes.ts';
import { aboveLine, detailLines, queuesTable } from '../../ui/tables/queues.ts';
import { formatCount, formatDuration } from '../../ui/terminal/format.ts';
import type { ProgressLine } from '../../ui/terminal/progress.ts';
import { openRepaint } from '../../ui/terminal/repaint.ts';
import type { TableOptions } from '../../ui/terminal/table.ts';

/** Messages of each queue that --detail reads. */
const DETAIL_MESSAGES = 200;

interface Listed extends QueueView {
  readonly details?: readonly QueueDetail[];
  readonly above?: readonly Above[];
  /** Time that --until took. */
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
    const { listQueues, watchQueues } = await import('../../engine/queues/list.ts');
    return this.withCluster(flags, async (cluster) => {
      if (flags.watch || flags.until) {
        const intervalMs = Math.max(1, flags.interval) * 1_000;
        const views = watchQueues(cluster, { intervalMs, signal: this.watchSignal(), only });
        return this.#follow(views, flags);
      }
      const { signal } = this;
      const view = await listQueues(cluster, { intervalMs: flags.interval * 1_000, signal, only });
      return this.#show(cluster, view, flags);
    });
  }

  async #show(
    cluster: Cluster,
    view: QueueView,
    flags: {
      detail: boolean | undefined;
      'max-ready': number | undefined;
      'max-age': number | undefined;
    },
  ): Promise<Listed> {
    const { aboveLimits, queueDetails } = await import('../../engine/queues/list.ts');
    const details = flags.detail ? await queueDetails(cluster, view.queues, DETAIL_MESSAGES) : undefined;
    const { 'max-ready': maxReady, 'max-age': maxAge } = flags;
    const limited = maxReady !== undefined || maxAge !== undefined;
    const limits = { maxReady, maxAgeMs: maxAge === undefined ? undefined : maxAge * 1_000 };
    const above = limited ? aboveLimits(view.queues, limits) : undefined;
    this.log(textOf(view, this.tableOptions));
    for (const line of detailLines(details ?? [])) this.log(line);
    for (const one of above ?? []) this.logToStderr(aboveLine(one));
    if (above && above.length > 0) process.exitCode = 1;
    return { ...view, ...(details && { details }), ...(above && { above }) };
  }

  /** Repeats the view until the queues are empty, the timeout is over, or a signal arrives. */
  async #follow(
    views: AsyncIterable<QueueView>,
    flags: { watch: boolean | undefined; until: 'empty' | undefined; timeout: number | undefined },
  ): Promise<Listed | undefined> {
    const limits = { untilEmpty: flags.until !== undefined, timeoutSeconds: flags.timeout };
    const end = flags.watch
      ? await watchUntil(views, limits, this.#painter())
      : await this.withProgress('emptying', (progress) =>
          watchUntil(views, limits, this.#reporter(progress)),
        );
    if (!flags.until) return undefined;
    const { view, reason, seconds } = end;
    if (reason !== 'empty') {
      const cause = reason === 'timeout' ? 'Timeout' : 'Stopped';
      this.logToStderr(`${cause}: ${formatCount(messagesLeft(view))} message(s) left.`);
      process.exitCode = reason === 'timeout' ? 1 : 3;
    }
    if (flags.watch) return undefined;
    if (reason === 'empty') this.log(`Empty after ${formatDuration(seconds)}.`);
    else this.log(textOf(view, this.tableOptions));
    return { ...view, seconds };
  }

  /** Draws each view over the one before. A line for each field would not fit on the screen. */
  #painter(): (view: QueueView) => void {
    const repaint = openRepaint(process.stdout);
    return (view) => {
      if (this.jsonEnabled()) process.stdout.write(`${JSON.stringify(view)}\n`);
      else repaint(textOf(view, { ...this.tableOptions, rowsOnly: true }));
    };
  }

  /** Reports how much is left, and each change of a lane. */
  #reporter(progress: ProgressLine): (view: QueueView) => void {
    let total = 0;
    let logged = '';
    return (view) => {
      const left = messagesLeft(view);
      total = Math.max(total, left);
      progress.update({ done: total - left, total, unit: 'messages' });
      const notes = laneNotes(view.lanes).join('\n');
      if (notes !== logged) this.logToStderr(notes);
      logged = notes;
    };
  }
}

const textOf = (view: QueueView, options: TableOptions): string =>
  [queuesTable(view.queues, options), ...laneNotes(view.lanes)].join('\n');
