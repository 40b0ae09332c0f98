import { setFlagsFromString } from 'node:v8';
import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { telemetryFlags } from '../../cli/flags/telemetry.ts';

export default class WorkerStart extends BaseCommand {
  static override summary = 'Run a fan-out worker';
  static override description =
    `Plans, writes and pushes posts until it is stopped. Any number of workers share the
queues.

The first signal drains the worker, the second stops it immediately.`;
  static override examples = [
    '<%= config.bin %> worker start',
    'FEEDCTL_DATABASE_URL=postgres://feeds@db.example/feeds <%= config.bin %> worker start --json',
  ];

  static override flags = {
    'metrics-port': Flags.integer({
      description: 'port to serve /metrics, /healthz and /readyz on; 0: a free one',
      env: 'FEEDCTL_METRICS_PORT',
      min: 0,
      max: 65_535,
    }),
    'metrics-host': Flags.string({
      description: 'host to serve metrics on',
      env: 'FEEDCTL_METRICS_HOST',
      default: '127.0.0.1',
    }),
    ...telemetryFlags,
  };

  async run(): Promise<void> {
    const { flags } = await this.parse(WorkerStart);
    // Batches become garbage within milliseconds. A young generation that grows would only take 60 MB.
    setFlagsFromString('--semi-space-growth-factor=1');
    const { drainAsked } = await import('../../engine/fleet/drain.ts');
    const { startMetricsRole, startWorkerRole } = await import('../../engine/cluster/roles.ts');
    await this.runRole(flags, async (cluster) => {
      const port = flags['metrics-port'];
      const metrics =
        port === undefined
          ? undefined
          : await startMetricsRole(cluster, cluster.resources, { host: flags['metrics-host'], port });
      const worker = await startWorkerRole(cluster, cluster.resources, this.config.version, {
        drainable: true,
      });
      const { ended } = await drainAsked(cluster.db, cluster.resources, worker.id);
      await this.announceRole(cluster, {
        name: `Worker ${worker.id}`,
        does: metrics ? `Metrics are at ${metrics.url}/metrics.` : '',
        check: () => cluster.readiness.check(),
        more: { workerId: worker.id, ...(metrics && { metricsUrl: metrics.url }) },
      });
      return { ended };
    });
  }
}
