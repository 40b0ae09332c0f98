import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { OPERATION_STATES } from '../../engine/model/operation.ts';
import type { OperationRow } from '../../engine/operations/table.ts';
import { operationsTable } from '../../ui/tables/operations.ts';

export default class OperationList extends BaseCommand {
  static override summary = 'List long work: who ran what, how far it is, and what came of it';
  static override description =
    'The newest first. What is interrupted was left by a process that ended; `operation resume` goes on with it.';
  static override flags = {
    state: Flags.option({
      options: OPERATION_STATES,
      multiple: true,
      description: 'only those in this state',
    })(),
    kind: Flags.string({ description: 'only those of this kind, such as rebuild or replay' }),
    limit: Flags.integer({ char: 'n', description: 'how many', default: 20, min: 1, max: 10_000 }),
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
    if (operations.length === 0) this.log('No operations.');
    else this.log(operationsTable(operations, this.tableOptions));
    return { operations };
  }
}
