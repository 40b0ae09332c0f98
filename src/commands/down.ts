import { BaseCommand } from '../cli/baseCommand.ts';
import { durationFlag } from '../cli/flags/durations.ts';
import { FeedctlError } from '../engine/model/errors.ts';

export default class Down extends BaseCommand {
  static override summary = 'Stop the embedded cluster of a data directory';
  static override description =
    'With a database URL in use there is no embedded cluster: only --data-dir then names one.';
  static override examples = [
    '<%= config.bin %> down',
    '<%= config.bin %> down --data-dir /tmp/feeds --timeout 10',
  ];
  static override flags = {
    timeout: durationFlag({ unit: 's', description: 'maximum wait', default: 60, min: 1 }),
  };

  async run(): Promise<{ stopped: boolean; dataDir: string }> {
    const { flags } = await this.parse(Down);
    const { dataDir, embedded, context, sources } = await this.loadConfig(flags);
    // Such a context names another cluster than the one that would be stopped.
    if (!embedded && (sources.dataDir !== 'flag' || sources.databaseUrl === 'flag')) {
      const where = { flag: '--database-url', environment: 'FEEDCTL_DATABASE_URL', cluster: '', default: '' };
      const source =
        sources.databaseUrl === 'context' ? `the context ${context}` : where[sources.databaseUrl];
      throw new FeedctlError('USAGE', `\`down\` stops an embedded cluster, but ${source} names a database`, {
        suggestions: [
          `To stop the embedded cluster of ${dataDir}, name it: \`feedctl down --data-dir ${dataDir}\`.`,
          'Workers and gateways of that database stop by `feedctl worker drain` and `feedctl gateway drain`.',
        ],
      });
    }
    const { stopCluster } = await import('../engine/config/clusterState.ts');
    const stopped = await stopCluster(dataDir, flags.timeout * 1000);
    this.log(stopped ? `Stopped the cluster in ${dataDir}.` : `No cluster runs in ${dataDir}.`);
    return { stopped, dataDir };
  }
}
