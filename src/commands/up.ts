import { BaseCommand } from '../cli/baseCommand.ts';
import { gatewayFlags, gatewayOptions } from '../cli/flags/gateway.ts';
import { telemetryFlags } from '../cli/flags/telemetry.ts';
import { aborted } from '../cli/signals.ts';
import type { EmbeddedCluster } from '../engine/cluster/roles.ts';
import { FeedctlError } from '../engine/model/errors.ts';

export default class Up extends BaseCommand {
  static override summary = 'Run a whole cluster in one process: database, queue, worker, gateway';
  static override description = `Starts an embedded cluster in the data directory, and runs it until Ctrl-C or
\`feedctl down\`. Data survives.`;
  static override examples = [
    '<%= config.bin %> up',
    '<%= config.bin %> up --data-dir /tmp/feeds --port 0 --json',
  ];
  static override flags = { ...gatewayFlags, ...telemetryFlags };

  async run(): Promise<void> {
    const { flags } = await this.parse(Up);
    const config = await this.loadConfig(flags);
    if (!config.embedded) {
      throw new FeedctlError('USAGE', '`up` runs the embedded cluster, but a database URL is set', {
        suggestions: [
          'Run `feedctl worker start` and `feedctl gateway start` on that database.',
          'Or unset FEEDCTL_DATABASE_URL.',
        ],
      });
    }
    const { startEmbeddedCluster } = await import('../engine/cluster/roles.ts');
    const { openTelemetry } = await import('../engine/telemetry/telemetry.ts');
    const { signal } = this;
    const { version } = this.config;
    const telemetry = await openTelemetry({
      ...this.telemetryOptions(flags),
      logLevel: flags['log-level'] || 'warn',
    });
    try {
      const cluster = await startEmbeddedCluster(config, {
        ...gatewayOptions(flags),
        ...telemetry,
        version,
        signal,
        onStage: (stage) => this.logToStderr(stage),
      });
      await this.#runUntilEnd(cluster, config.dataDir);
    } finally {
      await this.closeTelemetry(telemetry);
    }
  }

  async #runUntilEnd(cluster: EmbeddedCluster, dataDir: string): Promise<void> {
    const { signal } = this;
    this.stuckAt = cluster.stuckAt;
    const gatewayUrl = cluster.gateway.url;
    const { databaseUrl } = cluster.postgres;
    if (this.jsonEnabled()) this.logJson({ ready: true, gatewayUrl, databaseUrl, dataDir });
    this.log(
      [
        'The cluster is up.',
        `  gateway   ${gatewayUrl}`,
        `  database  ${databaseUrl}`,
        `  data      ${dataDir}`,
        `Open ${gatewayUrl} in a browser. Ctrl-C stops the cluster; its data stays.`,
      ].join('\n'),
    );
    const ended = await aborted(
      signal,
      cluster.postgres.exited.then(() => 'database' as const),
    );
    await cluster.stop();
    if (ended === 'database') throw cluster.postgres.failure();
  }
}
