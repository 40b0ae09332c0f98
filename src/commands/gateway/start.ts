import { BaseCommand } from '../../cli/baseCommand.ts';
import { gatewayFlags, gatewayOptions } from '../../cli/flags/gateway.ts';
import { telemetryFlags } from '../../cli/flags/telemetry.ts';

export default class GatewayStart extends BaseCommand {
  static override summary = 'Run a gateway: the HTTP API and the WebSocket feeds';
  static override examples = [
    '<%= config.bin %> gateway start --port 8080',
    'FEEDCTL_DATABASE_URL=postgres://feeds@db/feeds <%= config.bin %> gateway start --host 0.0.0.0 --json',
  ];
  static override flags = { ...gatewayFlags, ...telemetryFlags };

  async run(): Promise<void> {
    const { flags } = await this.parse(GatewayStart);
    const { startGatewayRole } = await import('../../engine/cluster/roles.ts');
    await this.runRole(flags, async (cluster) => {
      const drain = Promise.withResolvers<void>();
      const options = { ...gatewayOptions(flags), onDrain: drain.resolve };
      const { gateway } = await startGatewayRole(cluster, cluster.resources, options);
      if (this.jsonEnabled()) this.logJson({ ready: true, gatewayId: gateway.id, gatewayUrl: gateway.url });
      this.log(`Gateway ${gateway.id} listens at ${gateway.url}.`);
      return { ended: drain.promise };
    });
  }
}
