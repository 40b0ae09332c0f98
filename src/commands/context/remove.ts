import { Args } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag, yesFlag } from '../../cli/flags/common.ts';

export default class ContextRemove extends BaseCommand {
  static override summary = 'Remove a context; its cluster does not change';
  static override args = { name: Args.string({ description: 'name of the context', required: true }) };
  static override flags = { 'dry-run': dryRunFlag, yes: yesFlag };
  static override examples = [
    '<%= config.bin %> context remove staging',
    '<%= config.bin %> context remove prod --context-name prod --yes --json',
  ];

  async run(): Promise<{ name: string; dryRun: boolean }> {
    const { args, flags } = await this.parse(ContextRemove);
    const { name } = args;
    const dryRun = flags['dry-run'];
    const { readContext, removeContext } = await import('../../engine/config/contexts.ts');
    const { shownContext } = await import('../../ui/tables/contexts.ts');
    const { context } = await readContext(process.env, name);
    await removeContext(process.env, name, { dryRun: true });
    if (!dryRun) {
      if (shownContext({ name, context, current: false }).production)
        await this.confirmName(
          `${name} is a production cluster.`,
          name,
          flags['context-name'],
          '--context-name',
        );
      await this.confirm(`Remove the context ${name}?`, flags.yes);
      await removeContext(process.env, name);
    }
    this.log(`${dryRun ? 'Would remove' : 'Removed'} ${name}.`);
    return { name, dryRun };
  }
}
