import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag, operationArg } from '../../cli/flags/common.ts';
import { durationFlag } from '../../cli/flags/durations.ts';
import { operator } from '../../cli/invocation.ts';
import type { CancelResult } from '../../engine/operations/control.ts';

export default class OperationCancel extends BaseCommand {
  static override summary = 'Cancel an operation; what it has done stays';
  static override description =
    `A running operation stops at its next safe point; exits 3 if that takes longer than
--timeout. An interrupted or failed one cannot be resumed any more.

Refused if it would leave something half done.`;
  static override args = { id: operationArg() };
  static override flags = {
    timeout: durationFlag({
      unit: 's',
      description: 'maximum wait until it stops',
      default: 30,
      min: 0,
    }),
    'dry-run': dryRunFlag,
  };
  static override examples = [
    '<%= config.bin %> operation cancel 12',
    '<%= config.bin %> operation cancel 12 --dry-run --json',
  ];

  async run(): Promise<CancelResult> {
    const { args, flags } = await this.parse(OperationCancel);
    const { cancelOperation } = await import('../../engine/operations/control.ts');
    const { signal } = this;
    const result = await this.withCluster(flags, ({ db }) =>
      cancelOperation(db, args.id, {
        by: operator(),
        dryRun: flags['dry-run'],
        waitMs: flags.timeout * 1_000,
        signal,
      }),
    );
    if (result.dryRun) this.log(`Would cancel operation ${result.id}, which is ${result.was}.`);
    else if (result.state === 'cancelled') this.log(`Cancelled operation ${result.id}.`);
    else {
      this.log(`Operation ${result.id} is stopping, but has not stopped yet.`);
      process.exitCode = 3;
    }
    return result;
  }
}
