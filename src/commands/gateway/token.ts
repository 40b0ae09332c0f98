import { BaseCommand } from '../../cli/baseCommand.ts';

export default class GatewayToken extends BaseCommand {
  static override summary = 'Print a token that shows the cluster in a browser for 12 hours';
  static override description = `The tab "Cluster" of the page at / of every gateway asks for it.

It shows what \`top\` shows, and allows no change.`;
  static override examples = [
    '<%= config.bin %> gateway token',
    'curl -H "Authorization: Bearer $(<%= config.bin %> gateway token)" localhost:7070/cluster/snapshot',
  ];

  async run(): Promise<{ token: string }> {
    const { flags } = await this.parse(GatewayToken);
    const { signViewerToken } = await import('../../engine/gateway/tokens.ts');
    const token = await this.withCluster(flags, ({ db }) => signViewerToken(db));
    this.log(token);
    return { token };
  }
}
