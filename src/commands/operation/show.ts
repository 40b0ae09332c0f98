import { BaseCommand } from '../../cli/baseCommand.ts';
import { operationArg } from '../../cli/flags/common.ts';
import { watchFlags } from '../../cli/flags/output.ts';
import type { OperationRow } from '../../engine/operations/table.ts';
import { operationDetails } from '../../ui/tables/operations.ts';

export default class OperationShow extends BaseCommand {
  static override summary = 'Show one operation: command, operator, progress, result or error';
  static override args = { id: operationArg() };
  static override flags = watchFlags;
  static override examples = [
    '<%= config.bin %> operation show 12',
    '<%= config.bin %> operation show 12 --json',
  ];

  async run(): Promise<OperationRow> {
    const { args, flags } = await this.parse(OperationShow);
    const { getOperation } = await import('../../engine/operations/table.ts');
    const operation = await this.withCluster(flags, ({ db }) => getOperation(db, args.id));
    this.log(operationDetails(operation));
    return operation;
  }
}
