import { BaseCommand } from '../../cli/baseCommand.ts';
import { tableFlags } from '../../cli/flags/output.ts';
import type { IdentityReport } from '../../engine/cluster/identify.ts';
import { identityText } from '../../ui/tables/identity.ts';

export default class ClusterIdentity extends BaseCommand {
  static override summary = 'Show the ids of the cluster and of the histories of its database';
  static override description =
    'The broker, the cache and messages carry these ids. A lineage is one history of the database: another ' +
    'one begins when commits may be lost, by a failover or a restore.';
  static override flags = tableFlags;
  static override examples = [
    '<%= config.bin %> cluster identity',
    '<%= config.bin %> cluster identity --json',
  ];

  async run(): Promise<IdentityReport> {
    const { flags } = await this.parse(ClusterIdentity);
    const config = await this.loadConfig(flags);
    const { readIdentity, withAnyDatabase } = await import('../../engine/cluster/identify.ts');
    const report = await withAnyDatabase(config, this.config.version, readIdentity);
    this.log(identityText(report, this.tableOptions));
    return report;
  }
}
