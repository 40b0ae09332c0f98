import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag, yesFlag } from '../../cli/flags/common.ts';

interface AdoptResult {
  readonly cluster: string | null;
  /** The present lineage; with --dry-run that before. */
  readonly lineage: string | null;
  /** Cluster that had the virtual host of the broker before; with --dry-run now. Null: none, or this one. */
  readonly brokerFrom: string | null;
  readonly dryRun: boolean;
}

export default class ClusterAdopt extends BaseCommand {
  static override summary = 'Continue the cluster with this database, which was moved or restored';
  static override description =
    `Run this if the original database is gone: after pg_dump and pg_restore, pg_upgrade, or a restore that
PostgreSQL cannot tell from the original. A new lineage begins: caches start empty.

With a broker its virtual host becomes this cluster's too. Messages of another cluster in it are dropped.

If the original is still in use, run \`feedctl cluster identify\` instead.`;
  static override flags = { 'dry-run': dryRunFlag, yes: yesFlag };
  static override examples = [
    '<%= config.bin %> cluster adopt --dry-run',
    '<%= config.bin %> cluster adopt --yes --json',
  ];

  async run(): Promise<AdoptResult> {
    const { flags } = await this.parse(ClusterAdopt);
    const config = await this.loadConfig(flags);
    const { adopt, readIdentity, withAnyDatabase } = await import('../../engine/cluster/identify.ts');
    const result = await withAnyDatabase(config, this.config.version, async (db): Promise<AdoptResult> => {
      const { cluster, lineage } = await readIdentity(db);
      const dryRun = flags['dry-run'];
      if (cluster === null) return { cluster, lineage, brokerFrom: null, dryRun };
      const brokerFrom = await adopt(db, config, cluster, async (other) => {
        if (!dryRun) await this.confirm(question(cluster, other), flags.yes);
        return !dryRun;
      });
      const after = dryRun ? lineage : (await readIdentity(db)).lineage;
      return { cluster, lineage: after, brokerFrom: brokerFrom ?? null, dryRun };
    });
    const { cluster, lineage, brokerFrom, dryRun } = result;
    if (cluster === null) this.log('This database has no identity yet. Its first role gives it one.');
    else if (dryRun) this.log(`Would continue the cluster ${cluster} after the lineage ${lineage}.`);
    else this.log(`This database continues the cluster ${cluster}, with the lineage ${lineage}.`);
    if (brokerFrom !== null && dryRun)
      this.log(`Would take the virtual host from the cluster ${brokerFrom}, and drop its messages.`);
    else if (brokerFrom !== null)
      this.log(`The virtual host of the broker belonged to the cluster ${brokerFrom} before.`);
    return result;
  }
}

const question = (cluster: string, brokerFrom: string | undefined): string =>
  brokerFrom === undefined
    ? `Is the original database of the cluster ${cluster} gone for good?`
    : `The virtual host of the broker belongs to the cluster ${brokerFrom}: its messages are dropped. ` +
      `Are that cluster and the original database of the cluster ${cluster} gone for good?`;
