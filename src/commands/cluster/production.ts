import { Args } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag } from '../../cli/flags/common.ts';

export default class ClusterProduction extends BaseCommand {
  static override summary = 'Say whether every change of this cluster asks for its name';
  static override description =
    `The database keeps this, so it holds in every shell, with or without a context. A role or a context
with \`production\` sets it too; only this command takes it back.`;
  static override args = {
    state: Args.string({ description: 'on or off', options: ['on', 'off'], required: true }),
  };
  static override flags = { 'dry-run': dryRunFlag };
  static override examples = [
    '<%= config.bin %> cluster production on',
    '<%= config.bin %> cluster production off --context-name prod --json',
  ];

  async run(): Promise<{ production: boolean; dryRun: boolean }> {
    const { args, flags } = await this.parse(ClusterProduction);
    const production = args.state === 'on';
    const dryRun = flags['dry-run'];
    const { setProduction } = await import('../../engine/cluster/components.ts');
    await this.withCluster(flags, async ({ db }) => {
      if (!dryRun) await setProduction(db, production);
    });
    const state = production ? 'a production cluster' : 'no production cluster';
    this.log(dryRun ? `Would make it ${state}.` : `It is ${state} now.`);
    return { production, dryRun };
  }
}
