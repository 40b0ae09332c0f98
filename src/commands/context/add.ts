import { resolve } from 'node:path';
import { Args, Flags } from '@oclif/core';
import { BaseCommand, settingsOf } from '../../cli/baseCommand.ts';
import { dryRunFlag } from '../../cli/flags/common.ts';
import { kubeFlags } from '../../cli/flags/kubernetes.ts';
import type { Context } from '../../engine/config/contexts.ts';
import type { ShownContext } from '../../ui/tables/contexts.ts';

const sourceFlags = (of: string, url: string) => ({
  [`${of}-env`]: Flags.string({
    description: `variable that holds the ${url}`,
    exclusive: [`${of}-file`, `${of}-command`, of],
  }),
  [`${of}-file`]: Flags.string({
    description: `file that holds the ${url}`,
    exclusive: [`${of}-command`, of],
  }),
  [`${of}-command`]: Flags.string({ description: `command that prints the ${url}`, exclusive: [of] }),
});

export default class ContextAdd extends BaseCommand {
  static override summary = 'Add a context: a name for a cluster and its settings';
  static override description =
    `A URL with a password is not stored: a variable, a file or a command supplies it.

With --production, each change asks for the name of the context; --yes does not skip
that.`;
  static override args = { name: Args.string({ description: 'name of the context', required: true }) };
  static override flags = {
    ...sourceFlags('database-url', 'database’s URL'),
    ...sourceFlags('broker-url', 'brokers’ URLs'),
    ...sourceFlags('cache-url', 'cache’s URL'),
    'gateway-url': Flags.string({ description: 'URL of the gateway for clients of this cluster' }),
    ...kubeFlags,
    store: Flags.option({ options: ['citus', 'postgres'] as const, description: 'kind of the database' })(),
    'database-disk': Flags.string({ description: 'size of the disk of each database server, as 500GiB' }),
    production: Flags.boolean({
      description: 'ask for the name of the context before every change',
      default: false,
    }),
    use: Flags.boolean({ description: 'use the context from now on', default: false }),
    replace: Flags.boolean({ description: 'replace an existing context of that name', default: false }),
    'dry-run': dryRunFlag,
  };
  static override examples = [
    '<%= config.bin %> context add staging --database-url postgres://feeds@db.staging/feeds --use',
    '<%= config.bin %> context add prod --production --database-url-command "pass show feeds/prod" --json',
  ];

  async run(): Promise<ShownContext & { dryRun: boolean }> {
    const { args, flags } = await this.parse(ContextAdd);
    const { name } = args;
    const { use, replace, production, store, 'database-disk': databaseDisk, 'dry-run': dryRun } = flags;
    const { context: _, ...settings } = settingsOf(flags);
    const { checkSettings, refuseSecrets } = await import('../../engine/config/config.ts');
    const { addContext } = await import('../../engine/config/contexts.ts');
    const { shownContext } = await import('../../ui/tables/contexts.ts');
    refuseSecrets(settings);
    if (settings.dataDir) settings.dataDir = resolve(settings.dataDir);
    checkSettings({ ...settings, databaseDisk });
    const given = flags as Record<string, unknown>;
    const from = (flag: string) => {
      for (const source of ['env', 'file', 'command']) {
        const value = given[`${flag}-${source}`] as string | undefined;
        if (value !== undefined) return { [source]: source === 'file' ? resolve(value) : value };
      }
      return undefined;
    };
    const sources = Object.entries({
      databaseUrlFrom: from('database-url'),
      brokerUrlFrom: from('broker-url'),
      cacheUrlFrom: from('cache-url'),
    }).filter(([, source]) => source);
    const context: Context = {
      ...settings,
      ...Object.fromEntries(sources),
      ...(store && { store }),
      ...(databaseDisk && { databaseDisk }),
      ...(production && { production }),
    };
    await addContext(process.env, name, context, { use, replace, dryRun });
    this.log(`${dryRun ? 'Would add' : 'Added'} ${name}${use ? ', in use' : ''}.`);
    return { ...shownContext({ name, context, current: use }), dryRun };
  }
}
