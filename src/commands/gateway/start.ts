import { BaseCommand } from '../../cli/baseCommand.ts';
import { advertiseUrlFlag, gatewayFlags, gatewayOptions } from '../../cli/flags/gateway.ts';
import { telemetryFlags } from '../../cli/flags/telemetry.ts';

export default class GatewayStart extends BaseCommand {
  static override summary = 'Run a gateway: the HTTP API and the WebSocket feeds';
  static override examples = [
    '<%= config.bin %> gateway start --port 8080',
    'FEEDCTL_DATABASE_URL=postgres://feeds@db/feeds <%= config.bin %> gateway start --host 0.0.0.0 --json',
  ];
  static override flags = { ...gatewayFlags, 'advertise-url': advertiseUrlFlag, ...telemetryFlags };

  async run(): Promise<void> {
    const { flags } = await this.parse(GatewayStart);
    const { startGatewayRole } = await import('../../engine/cluster/roles.ts');
    const { checkAdvertisedUrl } = await import('../../engine/gateway/urls.ts');
    const given = flags['advertise-url'];
    // A wrong URL is refused before the servers of the cluster are asked.
    const advertised = given === undefined ? undefined : { url: checkAdvertisedUrl(given) };
    await this.runRole(flags, async (cluster) => {
      const drain = Promise.withResolvers<void>();
      const options = { ...gatewayOptions(flags), advertised, onDrain: drain.resolve };
      const { gateway } = await startGatewayRole(cluster, cluster.resources, options);
      const { id: gatewayId, url: gatewayUrl, advertisedUrl } = gateway;
      const others = advertisedUrl === gatewayUrl ? '' : `, and other processes reach it at ${advertisedUrl}`;
      await this.announceRole(cluster, {
        name: `Gateway ${gatewayId}`,
        does: `It listens at ${gatewayUrl}${others}.`,
        check: () => gateway.checkReady(),
        more: { gatewayId, gatewayUrl, advertisedUrl },
      });
      return { ended: drain.promise };
    });
  }
}
