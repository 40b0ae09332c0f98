import { BaseCommand } from '../../cli/baseCommand.ts';
import { kubeFlags } from '../../cli/flags/kubernetes.ts';
import { listFlags } from '../../cli/flags/output.ts';
import type { WorkerState } from '../../engine/fleet/workers.ts';
import type { PodState } from '../../engine/kubernetes/pods.ts';
import { messageOf } from '../../engine/model/errors.ts';
import type { LaneState } from '../../engine/model/lanes.ts';
import { WORKER_COLUMNS } from '../../ui/columns/workers.ts';
import { podsTable } from '../../ui/tables/kubernetes.ts';

export default class WorkerList extends BaseCommand {
  static override summary = 'List the workers with readiness, partitions, rate and lag';
  static override description =
    `Lag is the longest time between the commit of a live post and the commit of its feed
rows, in the last 5 to 10 s. Paused lists the paused lanes whose messages this worker has
finished.

Lists pods too if a flag, the context or the environment names a cluster in Kubernetes.`;
  static override flags = { ...kubeFlags, ...listFlags };
  static override examples = ['<%= config.bin %> worker list', '<%= config.bin %> worker list --json'];

  async run(): Promise<{ workers: WorkerState[]; lanes: LaneState[]; pods?: PodState[] }> {
    const { flags } = await this.parse(WorkerList);
    const { workerStates } = await import('../../engine/fleet/workers.ts');
    const { readLanes } = await import('../../engine/store/lanes.ts');
    const { workers, lanes, where } = await this.withCluster(flags, async ({ db, config }) => ({
      workers: await workerStates(db),
      lanes: await readLanes(db),
      where: config.namespace ?? config.kubeContext,
    }));
    const { namespaceOfPod } = await import('../../engine/kubernetes/kubeconfig.ts');
    const pods = (where ?? (await namespaceOfPod())) ? await this.#pods(flags) : undefined;
    await this.list(WORKER_COLUMNS, workers, 'No workers.');
    await this.logLanes(lanes);
    if (pods) this.log(podsTable(pods, this.tableOptions));
    return { workers, lanes, ...(pods && { pods }) };
  }

  /** Returns undefined, with a warning, when Kubernetes does not answer: the workers are still listed. */
  async #pods(flags: Record<string, unknown>): Promise<PodState[] | undefined> {
    const { DEFAULT_NAMESPACE } = await import('../../engine/kubernetes/client.ts');
    const { listWorkerPods } = await import('../../engine/kubernetes/pods.ts');
    try {
      return await this.withKubernetes(flags, (kubernetes) =>
        listWorkerPods(kubernetes, kubernetes.namespace ?? DEFAULT_NAMESPACE),
      );
    } catch (error) {
      this.logToStderr(`Without the pods: ${messageOf(error)}.`);
      return undefined;
    }
  }
}
