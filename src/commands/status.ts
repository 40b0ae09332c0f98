import { BaseCommand } from '../cli/baseCommand.ts';
import { listFlags } from '../cli/flags/output.ts';
import type { ClusterStatus } from '../engine/monitoring/status.ts';
import { formatAge, holdsText } from '../ui/columns/queues.ts';
import { ratesTable } from '../ui/tables/rates.ts';
import { samplingLine } from '../ui/tables/sampling.ts';
import { storageLines } from '../ui/tables/storage.ts';
import { type Verdict, verdictLine } from '../ui/tables/verdict.ts';

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
    this.log(verdictLine(...statusVerdict(status)));
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
        ['queue', 'ready', 'in flight', 'holds', 'oldest', 'dead letters'],
        status.queues.map((q) => [
          q.queue,
          q.ready,
          q.unacked,
          holdsText(q),
          q.ready + q.unacked === 0 ? '' : formatAge(q.oldestAgeMs),
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

/** The cache alone does not stop posts: without it the cluster is slower, but ready. */
function statusVerdict({ context, ready, problems }: ClusterStatus): [Verdict, string] {
  const what = problems.join('; ');
  if (!ready) return ['bad', `The cluster ${context} is NOT READY: ${what}.`];
  if (problems.length > 0) return ['doubtful', `The cluster ${context} is ready, but slower: ${what}.`];
  return ['good', `The cluster ${context} is ready: posts reach feeds and sockets.`];
}
