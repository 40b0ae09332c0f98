import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { listFlags } from '../../cli/flags/output.ts';
import { OPERATION_STATES } from '../../engine/model/operation.ts';
import type { OperationRow } from '../../engine/operations/table.ts';
import { OPERATION_COLUMNS } from '../../ui/columns/operations.ts';

export default class OperationList extends BaseCommand {
  static override summary = 'List operations with operator, progress and result';
  static override description = `Newest first. An interrupted operation was left by a process that ended;
\`operation resume\` continues it.`;
  static override flags = {
    ...listFlags,
    state: Flags.option({
      options: OPERATION_STATES,
      multiple: true,
      description: 'only operations in this state; may be repeated',
    })(),
    kind: Flags.string({ description: 'only operations of this kind, such as rebuild or replay' }),
    limit: Flags.integer({
      char: 'n',
      description: 'maximum operations to list',
      default: 20,
      min: 1,
      max: 10_000,
    }),
  };
  static override examples = [
    '<%= config.bin %> operation list --state running --state interrupted',
    '<%= config.bin %> operation list --kind replay --json',
  ];

  async run(): Promise<{ operations: OperationRow[] }> {
    const { flags } = await this.parse(OperationList);
    const { listOperations } = await import('../../engine/operations/table.ts');
    const { state: states, kind, limit } = flags;
    const operations = await this.withCluster(flags, ({ db }) => listOperations(db, { states, kind, limit }));
    await this.list(OPERATION_COLUMNS, operations, 'No operations.');
    return { operations };
  }
}
