import { BaseCommand } from '../../cli/baseCommand.ts';
import { listFlags } from '../../cli/flags/output.ts';
import type { ShardList } from '../../engine/shards/list.ts';
import { SHARD_COLUMNS } from '../../ui/columns/shards.ts';
import { nodesTable } from '../../ui/tables/shards.ts';

export default class ShardsList extends BaseCommand {
  static override summary = 'List the shards with size, rows, node and skew';
  static override description =
    `A shard holds the rows of one hash range of every table, and moves as a whole. Sizes
include indexes; rows are estimates of the nodes.

Skew is the largest divided by the average, 1 if all are equal.`;
  static override flags = listFlags;
  static override examples = ['<%= config.bin %> shards list', '<%= config.bin %> shards list --json'];

  async run(): Promise<ShardList> {
    const { flags } = await this.parse(ShardsList);
    const { listShards } = await import('../../engine/shards/list.ts');
    const list = await this.withCluster(flags, ({ db }) => listShards(db));
    await this.list(SHARD_COLUMNS, list.shards, 'No shards.');
    this.log(nodesTable(list.nodes, this.tableOptions));
    this.log(`Skew: ${list.skew.shards} among shards, ${list.skew.nodes} among nodes.`);
    return list;
  }
}
