import { Flags } from '@oclif/core';
import { BaseCommand } from '../../baseCommand.ts';
import { portFlag, socketFlags, socketOptions } from '../../flags.ts';

export default class GatewayStart extends BaseCommand {
  static override summary = 'Run a gateway: the HTTP API and the WebSocket feeds';
  static override examples = [
    '<%= config.bin %> gateway start --port 8080',
    'FEEDCTL_DATABASE_URL=postgres://feeds@db.example/feeds <%= config.bin %> gateway start --host 0.0.0.0 --json',
  ];
  static override flags = {
    port: portFlag,
    host: Flags.string({ description: 'address to listen on', default: '127.0.0.1' }),
    ...socketFlags,
  };

  async run(): Promise<void> {
    const { flags } = await this.parse(GatewayStart);
    const { startGatewayRole } = await import('../../engine/roles.ts');
    await this.runRole(flags, async (cluster) => {
      const options = { ...flags, sockets: socketOptions(flags) };
      const { gateway } = await startGatewayRole(cluster, cluster.resources, options);
      if (this.jsonEnabled()) this.logJson({ ready: true, gatewayId: gateway.id, gatewayUrl: gateway.url });
      this.log(`Gateway ${gateway.id} listens at ${gateway.url}.`);
    });
  }
}
