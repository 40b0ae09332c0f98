import { BaseCommand } from '../../cli/baseCommand.ts';
import type { ShardList } from '../../engine/shards/list.ts';
import { nodesTable, shardsTable } from '../../ui/tables/shards.ts';

export default class ShardsList extends BaseCommand {
  static override summary = 'List the shards with their size, rows and node, and how even they are';
  static override description =
    'A shard is what moves as one: the rows of one range of hashes in every table. Sizes are with indexes; rows are as the nodes’ statistics count them. Skew is the largest against the average: 1 where all are equal.';
  static override examples = ['<%= config.bin %> shards list', '<%= config.bin %> shards list --json'];

  async run(): Promise<ShardList> {
    const { flags } = await this.parse(ShardsList);
    const { listShards } = await import('../../engine/shards/list.ts');
    const list = await this.withCluster(flags, ({ db }) => listShards(db));
    this.log(shardsTable(list.shards, this.tableOptions));
    this.log(nodesTable(list.nodes, this.tableOptions));
    this.log(`Skew: ${list.skew.shards} among shards, ${list.skew.nodes} among nodes.`);
    return list;
  }
}
