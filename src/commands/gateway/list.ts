import { BaseCommand } from '../../cli/baseCommand.ts';
import type { GatewayState } from '../../engine/fleet/gateways.ts';
import { formatDuration } from '../../ui/terminal/format.ts';

export default class GatewayList extends BaseCommand {
  static override summary = 'List the gateways, and whether each is ready';
  static override examples = ['<%= config.bin %> gateway list', '<%= config.bin %> gateway list --json'];

  async run(): Promise<{ gateways: GatewayState[] }> {
    const { flags } = await this.parse(GatewayList);
    const { gatewayStates } = await import('../../engine/fleet/gateways.ts');
    const gateways = await this.withCluster(flags, ({ db }) => gatewayStates(db));
    const rows = gateways.map((gateway) => [
      gateway.id,
      gateway.url,
      gateway.ready ? 'yes' : 'NO',
      gateway.online,
      gateway.startedAt.toISOString(),
      `${formatDuration(gateway.heartbeatAgeMs / 1000)} ago`,
    ]);
    await this.table(['gateway', 'url', 'ready', 'users online', 'since', 'last heard of'], rows, {
      empty: 'No gateways.',
    });
    return { gateways };
  }
}
