import { BaseCommand } from '../../cli/baseCommand.ts';
import { listFlags } from '../../cli/flags/output.ts';
import type { GatewayState, SharedUrl } from '../../engine/fleet/gateways.ts';
import { ERRORS } from '../../engine/model/errors.ts';
import { GATEWAY_COLUMNS } from '../../ui/columns/gateways.ts';

interface GatewayListResult {
  gateways: GatewayState[];
  /** URLs of several gateways: each leads to one of them at most. */
  sharedUrls: SharedUrl[];
}

export default class GatewayList extends BaseCommand {
  static override summary = 'List the gateways, and whether each is ready';
  static override flags = listFlags;
  static override examples = ['<%= config.bin %> gateway list', '<%= config.bin %> gateway list --json'];

  async run(): Promise<GatewayListResult> {
    const { flags } = await this.parse(GatewayList);
    const { gatewayStates, sharedUrls, sharedUrlText } = await import('../../engine/fleet/gateways.ts');
    const gateways = await this.withCluster(flags, ({ db }) => gatewayStates(db));
    await this.list(GATEWAY_COLUMNS, gateways, 'No gateways.');
    for (const { id, reason } of gateways)
      if (reason !== null) this.logToStderr(`Gateway ${id} is not ready: ${reason}.`);
    const shared = sharedUrls(gateways);
    for (const one of shared)
      this.logToStderr(`Warning: ${sharedUrlText(one)}.\n${ERRORS.GATEWAY_OTHER.fix}`);
    return { gateways, sharedUrls: shared };
  }
}
