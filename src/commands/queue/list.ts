import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { durationFlag, secondsFlag } from '../../cli/flags/durations.ts';
import { tableFlags } from '../../cli/flags/output.ts';
import { parseQueue } from '../../cli/flags/queues.ts';
import { messagesLeft, watchUntil } from '../../cli/queueWatch.ts';
import type { Cluster } from '../../engine/cluster/cluster.ts';
import { counted } from '../../engine/model/counted.ts';
import type { Above, QueueDetail, QueueView } from '../../engine/queues/list.ts';
import { renderList } from '../../ui/columns/column.ts';
import { QUEUE_COLUMNS } from '../../ui/columns/queues.ts';
import { laneNotes } from '../../ui/tables/lanes.ts';
import { aboveLine, detailLines } from '../../ui/tables/queues.ts';
import { formatDuration } from '../../ui/terminal/format.ts';
import type { ProgressLine } from '../../ui/terminal/progress.ts';
import type { TableOptions } from '../../ui/terminal/table.ts';

/** Messages of each queue that --detail reads. */
const DETAIL_MESSAGES = 200;
/** Shortest time between two views. */
const MIN_INTERVAL_S = 0.25;

interface Listed extends QueueView {
  readonly details?: readonly QueueDetail[];
  readonly above?: readonly Above[];
  /** Time that --until took. */
  readonly seconds?: number;
}

export default class QueueList extends BaseCommand {
  static override summary = 'Show backlog, rates and remaining time of each queue';
  static override description =
    `Counts messages, and what they hold: one has up to 2,000 events or 8,192 rows. With
--max-ready or --max-age it exits 1 if a queue is above the limit.

--until empty exits 0 after two empty views in a row, 1 at the timeout, 3 after Ctrl-C.`;
  static override usage =
    'queue list [--queue <value>...] [--interval <value>] [--detail] [--max-ready <value>] ' +
    '[--max-age <15m>] | [--watch] [--until empty [--timeout <value>]]';
  static override flags = {
    ...tableFlags,
    queue: Flags.string({ description: 'only this queue; may be repeated', multiple: true }),
    detail: Flags.boolean({ description: 'show the authors and posts of the waiting messages' }),
    interval: durationFlag({
      unit: 's',
      description: 'time between two views; 0: one view without rates',
      default: 2,
      min: 0,
      max: 3_600,
    }),
    watch: Flags.boolean({ description: 'repeat the view until Ctrl-C' }),
    until: Flags.option({
      options: ['empty'] as const,
      description: 'wait until no message waits or is in flight',
    })(),
    timeout: durationFlag({ unit: 's', description: 'maximum wait', dependsOn: ['until'], min: 1 }),
    'max-ready': Flags.integer({
      description: 'maximum waiting messages of a queue; more exit 1',
      min: 0,
      exclusive: ['watch', 'until'],
    }),
    'max-age': secondsFlag({
      description: 'maximum age of the oldest message of a queue; older exits 1',
      exclusive: ['watch', 'until'],
    }),
  };
  static override examples = [
    '<%= config.bin %> queue list --detail',
    '<%= config.bin %> queue list --watch --until empty --timeout 10m',
    '<%= config.bin %> queue list --max-ready 10000 --max-age 5m --json',
  ];

  async run(): Promise<Listed | undefined> {
    const { flags } = await this.parse(QueueList);
    const only = flags.queue?.map(parseQueue);
    const { listQueues, watchQueues } = await import('../../engine/queues/list.ts');
    return this.withCluster(flags, async (cluster) => {
      if (flags.watch || flags.until) {
        const intervalMs = Math.max(MIN_INTERVAL_S, flags.interval) * 1_000;
        const views = watchQueues(cluster, { intervalMs, signal: this.watchSignal(), only });
        return this.#follow(views, flags);
      }
      const { signal } = this;
      const view = await listQueues(cluster, { intervalMs: flags.interval * 1_000, signal, only });
      return this.#answer(cluster, view, flags);
    });
  }

  async #answer(
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
    this.#show(view);
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
      ? await watchUntil(views, limits, (view) => this.showView(() => this.#show(view)))
      : await this.withProgress('emptying', (progress) =>
          watchUntil(views, limits, this.#reporter(progress)),
        );
    if (!flags.until) return undefined;
    const { view, reason, seconds } = end;
    if (reason !== 'empty') {
      const cause = reason === 'timeout' ? 'Timeout' : 'Stopped';
      this.logToStderr(`${cause}: ${counted(messagesLeft(view), 'message')} left.`);
      process.exitCode = reason === 'timeout' ? 1 : 3;
    }
    if (flags.watch) return undefined;
    if (reason === 'empty') this.log(`Empty after ${formatDuration(seconds)}.`);
    else this.#show(view);
    return { ...view, seconds };
  }

  #show(view: QueueView): QueueView {
    this.log(textOf(view, this.tableOptions));
    return view;
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
  [renderList(QUEUE_COLUMNS, view.queues, options), ...laneNotes(view.lanes)].join('\n');
