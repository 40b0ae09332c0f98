import { Args } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { tableFlags } from '../../cli/flags/output.ts';
import type { ShownContext } from '../../ui/tables/contexts.ts';

export default class ContextShow extends BaseCommand {
  static override summary = 'Show the settings of a context, without its passwords';
  static override args = {
    name: Args.string({ description: 'name of the context; default: the one in use' }),
  };
  static override flags = tableFlags;
  static override examples = ['<%= config.bin %> context show', '<%= config.bin %> context show prod --json'];

  async run(): Promise<ShownContext> {
    const { args, flags } = await this.parse(ContextShow);
    const { listContexts, readContext } = await import('../../engine/config/contexts.ts');
    const { settingText, shownContext } = await import('../../ui/tables/contexts.ts');
    const { name, context } = await readContext(process.env, args.name ?? flags.context);
    const current = (await listContexts(process.env)).some((one) => one.current && one.name === name);
    const shown = shownContext({ name, context, current });
    const rows = Object.entries(shown.settings).map(([key, value]) => [key, settingText(value)]);
    this.log(`context ${name}${current ? ', in use' : ''}`);
    await this.table(['setting', 'value'], rows, { empty: 'No settings: the embedded cluster.' });
    return shown;
  }
}
