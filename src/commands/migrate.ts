import { Flags } from '@oclif/core';
import { BaseCommand } from '../cli/baseCommand.ts';
import { dryRunFlag } from '../cli/flags/common.ts';
import { durationFlag } from '../cli/flags/durations.ts';
import { counted } from '../engine/model/counted.ts';

export default class Migrate extends BaseCommand {
  static override summary = 'Bring the database schema and the broker’s queues up to date';
  static override description =
    `\`up\` does this for the embedded cluster. Several processes may run it at the same
time.

A table that another session locks is waited for without holding up posts and reads: see
docs/guides/servers.md.`;
  static override examples = [
    '<%= config.bin %> migrate --dry-run',
    'FEEDCTL_DATABASE_URL=postgres://feeds@db.example/feeds <%= config.bin %> migrate',
  ];
  static override flags = {
    'dry-run': dryRunFlag,
    timeout: durationFlag({
      unit: 's',
      description: 'maximum wait for other sessions that lock a table',
      default: 600,
      min: 0,
    }),
    partitions: Flags.integer({
      description: 'number of partitions at the broker, a power of two; may change while the cluster runs',
      env: 'FEEDCTL_PARTITIONS',
    }),
  };

  async run(): Promise<{ applied: string[]; pending: string[]; dryRun: boolean; partitions?: number }> {
    const { flags } = await this.parse(Migrate);
    const config = await this.loadConfig(flags);
    const { resolveDatabase } = await import('../engine/cluster/cluster.ts');
    const { Database } = await import('../engine/database/database.ts');
    const { migrate, schemaState } = await import('../engine/database/migrate.ts');
    const { ensurePartitions } = await import('../engine/store/partitions.ts');
    const db = new Database(await resolveDatabase(config), { maxSessions: 2 });
    try {
      const dryRun = flags['dry-run'];
      const wait = {
        timeoutMs: flags.timeout * 1_000,
        onBlocked: (blockers: string) => this.logToStderr(`Waiting for ${blockers}.`),
      };
      const applied = dryRun ? [] : await migrate(db, config.store, wait);
      if (!dryRun) await ensurePartitions(db, Date.now(), wait);
      const { pending } = await schemaState(db, config.store);
      if (dryRun) this.log(pending.length > 0 ? `Would apply: ${pending.join(', ')}` : 'Up to date.');
      else this.log(applied.length > 0 ? `Applied: ${applied.join(', ')}` : 'Up to date.');
      if (dryRun || !config.brokerUrl) return { applied, pending, dryRun };
      const { RabbitBus } = await import('../engine/bus/rabbitmq/bus.ts');
      const bus = new RabbitBus(config.brokerUrl, db.server);
      try {
        if (flags.partitions === undefined) await bus.declare();
        else await bus.changePartitions(flags.partitions);
        const partitions = await bus.partitions();
        this.log(`Queues at the broker: ${counted(partitions, 'partition')}.`);
        return { applied, pending, dryRun, partitions };
      } finally {
        await bus.close();
      }
    } finally {
      await db.close();
    }
  }
}
