import { Args } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag, yesFlag } from '../../cli/flags/common.ts';
import { durationFlag } from '../../cli/flags/durations.ts';
import { counted } from '../../engine/model/counted.ts';

interface DrainResult {
  gatewayId: string;
  url: string;
  /** Sockets that were open when the drain began; with --dry-run the users online. */
  sockets: number;
  seconds: number;
  drained: boolean;
  dryRun: boolean;
}

export default class GatewayDrain extends BaseCommand {
  static override summary = 'Close the sockets of a gateway one after the other, and stop it';
  static override description =
    `Works like SIGTERM: sockets close with 1012 and reconnect elsewhere, requests finish,
and the process exits with 0. Waits until the gateway has left the cluster.

A supervisor may start the process again.`;
  static override args = {
    gateway: Args.string({ description: 'id of the gateway, or its beginning', required: true }),
  };
  static override flags = {
    timeout: durationFlag({ unit: 's', description: 'maximum wait', default: 30, min: 1 }),
    'dry-run': dryRunFlag,
    yes: yesFlag,
  };
  static override examples = [
    '<%= config.bin %> gateway drain 943e8033',
    '<%= config.bin %> gateway drain 943e8033-dc64-43be-a622-b3ac83f15c68 --yes --json',
  ];

  async run(): Promise<DrainResult> {
    const { args, flags } = await this.parse(GatewayDrain);
    const { drainGateway, planDrain } = await import('../../engine/gateway/operator/drain.ts');
    const { signal } = this;
    return this.withCluster(flags, async ({ db }) => {
      const { gateway, others } = await planDrain(db, args.gateway);
      const { id: gatewayId, url, online } = gateway;
      const what = `the gateway at ${url} with ${counted(online, 'user')} online`;
      const elsewhere =
        others > 0
          ? `${counted(others, 'other gateway is', 'other gateways are')} ready.`
          : 'No other gateway is ready.';
      const dryRun = flags['dry-run'];
      if (dryRun) {
        this.log(`Would drain ${what}. ${elsewhere}`);
        return { gatewayId, url, sockets: online, seconds: 0, drained: false, dryRun };
      }
      await this.confirm(`${elsewhere} Drain ${what}?`, flags.yes);
      const options = { timeoutMs: flags.timeout * 1_000, signal };
      const { sockets, seconds } = await drainGateway(db, gateway, options);
      this.log(`Drained ${url}: ${counted(sockets, 'socket')} closed in ${seconds} s.`);
      return { gatewayId, url, sockets, seconds, drained: true, dryRun };
    });
  }
}
