import { BaseCommand } from '../../cli/baseCommand.ts';
import { listFlags } from '../../cli/flags/output.ts';
import type { ShownContext } from '../../ui/tables/contexts.ts';

export default class ContextList extends BaseCommand {
  static override summary = 'List the contexts';
  static override description = '* marks the context in use. Passwords are not shown.';
  static override flags = listFlags;
  static override examples = ['<%= config.bin %> context list', '<%= config.bin %> context list --json'];

  async run(): Promise<{ contexts: ShownContext[] }> {
    await this.parse(ContextList);
    const { listContexts } = await import('../../engine/config/contexts.ts');
    const { settingText, shownContext } = await import('../../ui/tables/contexts.ts');
    const contexts = (await listContexts(process.env)).map(shownContext);
    await this.table(
      ['', 'context', 'production', 'database'],
      contexts.map(({ name, current, production, settings }) => {
        const database = settings.databaseUrl ?? settings.databaseUrlFrom;
        return [
          current ? '*' : '',
          name,
          production ? 'yes' : 'no',
          database === undefined ? '(embedded)' : settingText(database),
        ];
      }),
    );
    return { contexts };
  }
}
