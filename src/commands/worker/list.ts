import { BaseCommand } from '../../cli/baseCommand.ts';
import { kubeFlags } from '../../cli/flags/kubernetes.ts';
import type { WorkerState } from '../../engine/fleet/workers.ts';
import type { PodState } from '../../engine/kubernetes/pods.ts';
import { messageOf } from '../../engine/model/errors.ts';
import type { LaneState } from '../../engine/model/lanes.ts';
import { podsTable } from '../../ui/tables/kubernetes.ts';
import { laneNotes } from '../../ui/tables/lanes.ts';
import { workersTable } from '../../ui/tables/workers.ts';

export default class WorkerList extends BaseCommand {
  static override summary = 'List the workers: what each reads and writes, and how far behind it is';
  static override description =
    'As of their last heartbeats, five seconds apart. Ready is what `/readyz` of the worker says: it is heard of, and can use its broker. Lag is from the commit of a post to that of its rows, of the slowest message of the live lane since the heartbeat before. With RabbitMQ a partition is read by one worker; the queue in the database is shared by all. Paused: lanes that an operator has paused, and of which the worker holds nothing any more. Where the context, a flag or the environment says where in Kubernetes the cluster runs, or this runs in a pod with a service account there, the pods of workers are listed too, those that have not come up as well.';
  static override flags = kubeFlags;
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
    const borders = Boolean(process.stdout.isTTY);
    this.log(workers.length === 0 ? 'No workers.' : workersTable(workers, { borders }));
    for (const note of laneNotes(lanes)) this.log(note);
    if (pods) this.log(podsTable(pods, { borders }));
    return { workers, lanes, ...(pods && { pods }) };
  }

  /** What the database knows of workers is worth showing where Kubernetes does not answer. */
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
