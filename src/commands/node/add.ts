import { Args } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag, yesFlag } from '../../cli/flags/common.ts';
import type { AddResult } from '../../engine/shards/nodes.ts';

export default class NodeAdd extends BaseCommand {
  static override summary = 'Add a server to the nodes of the database';
  static override description =
    `The server needs the Citus extension in a database of the same name. It gets shards at
the next \`shards rebalance\`. A node that was drained accepts shards again.`;
  static override args = {
    node: Args.string({ description: 'address of the server for all nodes, host:port', required: true }),
  };
  static override flags = { 'dry-run': dryRunFlag, yes: yesFlag };
  static override examples = [
    '<%= config.bin %> node add db3.example:5432',
    '<%= config.bin %> node add db3.example:5432 --yes --json',
  ];

  async run(): Promise<AddResult & { dryRun: boolean }> {
    const { args, flags } = await this.parse(NodeAdd);
    const { addNode } = await import('../../engine/shards/nodes.ts');
    const dryRun = flags['dry-run'];
    return this.withCluster(flags, async ({ db }) => {
      const plan = await addNode(db, args.node, { dryRun: true });
      const what =
        plan.was === 'drained' ? `let ${plan.node} take shards again` : `add the node ${plan.node}`;
      if (plan.was === 'present') this.log(`Nothing to change: ${plan.node} is a node that takes shards.`);
      else if (dryRun) this.log(`Would ${what}.`);
      else {
        await this.confirm(`${what[0]!.toUpperCase()}${what.slice(1)}?`, flags.yes);
        await addNode(db, args.node, { dryRun: false });
        this.log(`Done: ${what}. \`feedctl shards rebalance\` gives it shards.`);
      }
      return { ...plan, dryRun };
    });
  }
}
