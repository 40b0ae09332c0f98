import { BaseCommand } from '../../baseCommand.ts';

export default class WorkerStart extends BaseCommand {
  static override summary = 'Run a fan-out worker';
  static override description =
    'Plans, writes and pushes posts until it is stopped. Any number of workers share the queues. The first signal drains, the second forces.';
  static override examples = [
    '<%= config.bin %> worker start',
    'FEEDCTL_DATABASE_URL=postgres://feeds@db.example/feeds <%= config.bin %> worker start --json',
  ];

  async run(): Promise<void> {
    const { flags } = await this.parse(WorkerStart);
    const { startWorkerRole } = await import('../../engine/roles.ts');
    await this.runRole(flags, async (cluster) => {
      const worker = await startWorkerRole(cluster, cluster.resources, this.config.version);
      if (this.jsonEnabled()) this.logJson({ ready: true, workerId: worker.id });
      this.log(`Worker ${worker.id} is ready.`);
    });
  }
}
