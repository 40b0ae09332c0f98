import { Flags } from '@oclif/core';
import { dryRunFlag, yesFlag } from '../../cli/flags/common.ts';
import { RebalanceCommand, type RebalanceOutcome } from '../../cli/rebalanceCommand.ts';
import { counted } from '../../engine/model/counted.ts';
import type { StopResult } from '../../engine/shards/rebalance.ts';

export default class ShardsRebalance extends RebalanceCommand {
  static override summary = 'Move shards until the nodes are even, while the cluster runs';
  static override description =
    `A Citus job moves the shards and continues without this command: Ctrl-C ends only the
view (exit 3), and the same command follows the job again.

--stop ends the job: completed moves stay, and the current one is undone.`;
  static override flags = {
    'drain-node': Flags.string({ description: 'address of a node, host:port, to move all shards off' }),
    stop: Flags.boolean({ description: 'stop the running job', exclusive: ['drain-node'] }),
    'dry-run': dryRunFlag,
    yes: yesFlag,
  };
  static override examples = [
    '<%= config.bin %> shards rebalance --dry-run',
    '<%= config.bin %> shards rebalance --drain-node db3.example:5432 --yes --json',
    '<%= config.bin %> shards rebalance --stop --yes',
  ];

  async run(): Promise<RebalanceOutcome | (StopResult & { dryRun: boolean })> {
    const { flags } = await this.parse(ShardsRebalance);
    const dryRun = flags['dry-run'];
    const { yes } = flags;
    const drainNode = flags['drain-node'];
    return this.withCluster(flags, async (cluster) => {
      if (!flags.stop)
        return this.rebalance(cluster, { ...(drainNode && { drainNode }), drainOnly: false, dryRun, yes });
      const { stopRebalance } = await import('../../engine/shards/rebalance.ts');
      const plan = await stopRebalance(cluster.db, { dryRun: true });
      if (plan.jobId === null) {
        this.log('No rebalance is running.');
        return { ...plan, dryRun };
      }
      const job = `job ${plan.jobId} after ${plan.moved} of ${counted(plan.moves, 'move')}`;
      if (dryRun) {
        this.log(`Would stop ${job}.`);
        return { ...plan, dryRun };
      }
      await this.confirm(`Stop ${job}?`, yes);
      const stopped = await stopRebalance(cluster.db, { dryRun: false });
      this.log(`Stopped job ${stopped.jobId}: ${stopped.moved} of ${counted(stopped.moves, 'move')} done.`);
      return { ...stopped, dryRun };
    });
  }
}
