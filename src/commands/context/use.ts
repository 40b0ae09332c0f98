import { Args } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag } from '../../cli/flags/common.ts';

export default class ContextUse extends BaseCommand {
  static override summary = 'Use a context from now on';
  static override description = '--context and FEEDCTL_CONTEXT override it for a single command.';
  static override args = { name: Args.string({ description: 'name of the context', required: true }) };
  static override flags = { 'dry-run': dryRunFlag };
  static override examples = [
    '<%= config.bin %> context use staging',
    '<%= config.bin %> context use local --json',
  ];

  async run(): Promise<{ name: string; dryRun: boolean }> {
    const { args, flags } = await this.parse(ContextUse);
    const dryRun = flags['dry-run'];
    const { selectContext } = await import('../../engine/config/contexts.ts');
    await selectContext(process.env, args.name, { dryRun });
    this.log(`${dryRun ? 'Would use' : 'Using'} ${args.name}.`);
    return { name: args.name, dryRun };
  }
}
