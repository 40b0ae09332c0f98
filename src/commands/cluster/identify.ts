import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag } from '../../cli/flags/common.ts';
import { counted } from '../../engine/model/counted.ts';

interface IdentifyResult {
  /** Id before and after; with --dry-run the same one. */
  readonly before: string | null;
  readonly cluster: string | null;
  /** Workers and gateways that seem to run on this database: they stop working. */
  readonly roles: number;
  readonly dryRun: boolean;
}

export default class ClusterIdentify extends BaseCommand {
  static override summary = 'Make a copied database a cluster that shares nothing with the original';
  static override description =
    `Run this on the copy before its first worker or gateway starts. The copy gets another id, so it uses
none of the original's cached feeds and messages. It is no production cluster until you say so.

It keeps the keys that sign tokens: see \`feedctl gateway rotate-key\`.`;
  static override flags = {
    'dry-run': dryRunFlag,
    yes: Flags.string({
      char: 'y',
      description: 'present id of the cluster, to confirm without being asked',
    }),
  };
  static override examples = [
    '<%= config.bin %> cluster identify --dry-run',
    '<%= config.bin %> cluster identify --data-dir /srv/copy --yes 4f1c09a7be52',
  ];

  async run(): Promise<IdentifyResult> {
    const { flags } = await this.parse(ClusterIdentify);
    const config = await this.loadConfig(flags);
    const { readIdentity, withAnyDatabase } = await import('../../engine/cluster/identify.ts');
    const { renameCluster } = await import('../../engine/identity/identity.ts');
    const result = await withAnyDatabase(config, this.config.version, async (db) => {
      const { cluster: before, roles } = await readIdentity(db);
      const dryRun = flags['dry-run'];
      // A database without an identity gets one from its first role.
      if (before === null || dryRun) return { before, cluster: before, roles, dryRun };
      await this.confirmName(
        `This database would leave the cluster ${before}.${runningText(roles)}`,
        before,
        flags.yes,
      );
      return { before, cluster: await renameCluster(db), roles, dryRun };
    });
    const { before, cluster, roles, dryRun } = result;
    if (before === null) this.log('This database has no identity yet. Its first role gives it one.');
    else if (dryRun) this.log(`Would replace the id ${before}.${runningText(roles)}`);
    else this.log(`This database is the cluster ${cluster} now; before, it was ${before}.`);
    return result;
  }
}

const runningText = (roles: number): string =>
  roles > 0 ? ` ${counted(roles, 'role seems', 'roles seem')} to run, and would stop working.` : '';
