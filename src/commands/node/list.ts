import { BaseCommand } from '../../baseCommand.ts';
import type { NodeShards } from '../../engine/admin/shards.ts';
import { nodesTable } from '../../ui/shards.ts';

export default class NodeList extends BaseCommand {
  static override summary = 'List the nodes of the database with their shards';
  static override examples = ['<%= config.bin %> node list', '<%= config.bin %> node list --json'];

  async run(): Promise<{ nodes: NodeShards[] }> {
    const { flags } = await this.parse(NodeList);
    const { listNodes } = await import('../../engine/admin/databaseNodes.ts');
    const nodes = await this.withCluster(flags, ({ db }) => listNodes(db));
    this.log(nodesTable(nodes, { borders: Boolean(process.stdout.isTTY) }));
    return { nodes };
  }
}
