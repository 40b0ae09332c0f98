import { BaseCommand } from '../../cli/baseCommand.ts';
import type { GatewayState } from '../../engine/fleet/gateways.ts';
import { GATEWAY_COLUMNS } from '../../ui/columns/gateways.ts';

export default class GatewayList extends BaseCommand {
  static override summary = 'List the gateways, and whether each is ready';
  static override examples = ['<%= config.bin %> gateway list', '<%= config.bin %> gateway list --json'];

  async run(): Promise<{ gateways: GatewayState[] }> {
    const { flags } = await this.parse(GatewayList);
    const { gatewayStates } = await import('../../engine/fleet/gateways.ts');
    const gateways = await this.withCluster(flags, ({ db }) => gatewayStates(db));
    await this.list(GATEWAY_COLUMNS, gateways, 'No gateways.');
    return { gateways };
  }
}
