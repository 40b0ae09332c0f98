import { BaseCommand } from '../../baseCommand.ts';
import type { WorkerState } from '../../engine/admin/workers.ts';
import type { LaneState } from '../../engine/model/lanes.ts';
import { formatCount, formatDuration } from '../../ui/format.ts';
import { laneNotes } from '../../ui/lanes.ts';
import { renderTable } from '../../ui/table.ts';

export default class WorkerList extends BaseCommand {
  static override summary = 'List the workers: what each reads and writes, and how far behind it is';
  static override description =
    'As of their last heartbeats, five seconds apart. Lag is from the commit of a post to that of its rows, of the slowest batch since the heartbeat before. With RabbitMQ a partition is read by one worker; the queue in the database is shared by all. Paused: lanes that an operator has paused, and of which the worker holds nothing any more.';
  static override examples = ['<%= config.bin %> worker list', '<%= config.bin %> worker list --json'];

  async run(): Promise<{ workers: WorkerState[]; lanes: LaneState[] }> {
    const { flags } = await this.parse(WorkerList);
    const { workerStates } = await import('../../engine/admin/workers.ts');
    const { readLanes } = await import('../../engine/store/lanes.ts');
    const { workers, lanes } = await this.withCluster(flags, async ({ db }) => ({
      workers: await workerStates(db),
      lanes: await readLanes(db),
    }));
    const rows = workers.map((worker) => [
      worker.id,
      worker.host,
      String(worker.pid),
      worker.ready ? 'yes' : 'NO',
      worker.reads === null
        ? 'all'
        : worker.reads.map((name) => name.replace('feed.', '')).join(' ') || 'none',
      worker.paused.join(' '),
      worker.rowsPerSecond === null ? '' : formatCount(worker.rowsPerSecond),
      worker.lagMs === null ? '' : formatDuration(worker.lagMs / 1000),
      worker.memoryBytes === null ? '' : `${formatCount(worker.memoryBytes / 2 ** 20)} MiB`,
      worker.version,
      `${formatDuration(worker.heartbeatAgeMs / 1000)} ago`,
    ]);
    this.log(
      rows.length === 0
        ? 'No workers.'
        : renderTable(
            [
              'worker',
              'host',
              'pid',
              'ready',
              'reads',
              'paused',
              'rows/s',
              'lag',
              'memory',
              'version',
              'last heard of',
            ],
            rows,
            { borders: Boolean(process.stdout.isTTY) },
          ),
    );
    for (const note of laneNotes(lanes)) this.log(note);
    return { workers, lanes };
  }
}
