import { Flags } from '@oclif/core';
import { RebalanceCommand } from '../../cli/rebalanceCommand.ts';
import type { RebalancePlan } from '../../engine/shards/rebalance.ts';

export default class ShardsPlan extends RebalanceCommand {
  static override summary = 'Show which shards a rebalance would move, and what prevents it';
  static override description = 'Uses the dry run of Citus, and changes nothing.';
  static override flags = {
    'drain-node': Flags.string({ description: 'address of a node, host:port, that shall have no shards' }),
  };
  static override examples = [
    '<%= config.bin %> shards plan',
    '<%= config.bin %> shards plan --drain-node db3.example:5432 --json',
  ];

  async run(): Promise<RebalancePlan> {
    const { flags } = await this.parse(ShardsPlan);
    const { planRebalance } = await import('../../engine/shards/rebalance.ts');
    const plan = await this.withCluster(flags, ({ db }) =>
      planRebalance(db, { drainNode: flags['drain-node'] }),
    );
    this.showPlan(plan);
    return plan;
  }
}
