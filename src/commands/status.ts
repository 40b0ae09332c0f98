import { BaseCommand } from '../cli/baseCommand.ts';
import { listFlags } from '../cli/flags/output.ts';
import type { ClusterStatus } from '../engine/monitoring/status.ts';
import { ratesTable } from '../ui/tables/rates.ts';
import { samplingLine } from '../ui/tables/sampling.ts';
import { storageLines } from '../ui/tables/storage.ts';
import { formatDuration } from '../ui/terminal/format.ts';

export default class Status extends BaseCommand {
  static override summary = 'Show the components of the cluster, their state and the queues';
  static override description = 'Exits 1 if a component is not ready, or if the live lane is paused.';
  static override flags = listFlags;
  static override examples = ['<%= config.bin %> status', '<%= config.bin %> status --json'];

  async run(): Promise<ClusterStatus> {
    const { flags } = await this.parse(Status);
    const { clusterStatus } = await import('../engine/monitoring/status.ts');
    const status = await this.withCluster(flags, clusterStatus);
    const borders = Boolean(process.stdout.isTTY);
    this.log(`context ${status.context}: ${status.ready ? 'ready' : 'NOT READY'}`);
    await this.table(
      ['component', 'kind', 'version', 'ready', 'detail'],
      status.components.map((part) => [
        part.name,
        part.kind,
        part.version,
        part.ready ? 'yes' : 'NO',
        part.detail,
      ]),
    );
    if (status.queues.length > 0) {
      await this.table(
        ['queue', 'ready', 'in flight', 'oldest', 'dead letters'],
        status.queues.map((q) => [
          q.queue,
          q.ready,
          q.unacked,
          q.oldestAgeMs === null ? 'not known' : formatDuration(q.oldestAgeMs / 1000),
          q.deadLetters,
        ]),
      );
    }
    this.log(ratesTable(status, { borders }));
    this.log(samplingLine(status.sampling));
    this.log(storageLines(status.storage));
    await this.logLanes(status.lanes);
    if (!status.ready) process.exitCode = 1;
    return status;
  }
}
