import { BaseCommand } from '../../cli/baseCommand.ts';
import { listFlags } from '../../cli/flags/output.ts';
import type { NodeShards } from '../../engine/shards/list.ts';
import { nodesTable } from '../../ui/tables/shards.ts';

export default class NodeList extends BaseCommand {
  static override summary = 'List the nodes of the database with their shards';
  static override flags = listFlags;
  static override examples = ['<%= config.bin %> node list', '<%= config.bin %> node list --json'];

  async run(): Promise<{ nodes: NodeShards[] }> {
    const { flags } = await this.parse(NodeList);
    const { listNodes } = await import('../../engine/shards/nodes.ts');
    const nodes = await this.withCluster(flags, ({ db }) => listNodes(db));
    this.log(nodesTable(nodes, this.tableOptions));
    return { nodes };
  }
}
