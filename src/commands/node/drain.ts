import { Args, Flags } from '@oclif/core';
import { dryRunFlag, yesFlag } from '../../cli/flags/common.ts';
import { RebalanceCommand, type RebalanceOutcome } from '../../cli/rebalanceCommand.ts';

export default class NodeDrain extends RebalanceCommand {
  static override summary = 'Move all shards off a node, while the cluster runs';
  static override description =
    `A Citus job moves the shards and continues without this command: Ctrl-C ends only the
view. The node accepts no shards until \`node add\`.

With --remove the empty node leaves the database, after a wait of 40 s.`;
  static override args = {
    node: Args.string({ description: 'address of the node, host:port', required: true }),
  };
  static override flags = {
    remove: Flags.boolean({
      description: 'remove the empty node from the database',
      default: false,
    }),
    'dry-run': dryRunFlag,
    yes: yesFlag,
  };
  static override examples = [
    '<%= config.bin %> node drain db3.example:5432 --dry-run',
    '<%= config.bin %> node drain db3.example:5432 --remove --yes --json',
  ];

  async run(): Promise<RebalanceOutcome & { removed: boolean }> {
    const { args, flags } = await this.parse(NodeDrain);
    const { checkRemovable, removeEmptyNode } = await import('../../engine/shards/nodes.ts');
    const dryRun = flags['dry-run'];
    const { signal } = this;
    return this.withCluster(flags, async (cluster) => {
      if (flags.remove) await checkRemovable(cluster.db, args.node);
      const options = { drainNode: args.node, drainOnly: true, dryRun, yes: flags.yes };
      const result = await this.rebalance(cluster, options);
      if (!flags.remove || dryRun) return { ...result, removed: false };
      await this.withProgress('waiting until no process uses it', (progress) =>
        removeEmptyNode(cluster.db, args.node, {
          signal,
          onProgress: (done, total) => progress.update({ done, total, unit: 's' }),
        }),
      );
      this.log(`Removed ${args.node}.`);
      return { ...result, removed: true };
    });
  }
}
