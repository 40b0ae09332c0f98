import type { Command } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag, operationArg } from '../../cli/flags/common.ts';
import { oneLine } from '../../ui/terminal/format.ts';

export default class OperationResume extends BaseCommand {
  static override summary = 'Continue an operation that was interrupted or failed';
  static override description =
    `Runs its command again with the same arguments, from the saved progress; prints and
exits like that command. Refused if a file that it reads is missing or has changed.

--dry-run shows what the command would do from the beginning.`;
  static override args = { id: operationArg() };
  static override flags = { 'dry-run': dryRunFlag };
  static override examples = [
    '<%= config.bin %> operation resume 12',
    '<%= config.bin %> operation resume 12 --json',
    '<%= config.bin %> operation resume 12 --dry-run',
  ];

  async run(): Promise<void> {
    const { args, flags } = await this.parse(OperationResume);
    const { resumption } = await import('../../engine/operations/control.ts');
    const { command, args: own, key } = await this.withCluster(flags, ({ db }) => resumption(db, args.id));
    const found = this.config.findCommand(command, { must: true });
    const resuming = flags['dry-run'] ? 'Would resume' : 'Resuming';
    this.logToStderr(`${resuming} \`${oneLine([...command.split(':'), ...own].join(' '), 200)}\``);
    await this.runWithSameConfig(command, [
      ...this.#global(flags),
      ...confirmed(found.flags, own, key),
      ...(flags['dry-run'] ? ['--dry-run'] : []),
      ...own,
    ]);
  }

  /** Returns the flags for the cluster and the output that this command got. */
  #global(flags: Record<string, unknown>): string[] {
    const given = Object.keys({ ...BaseCommand.baseFlags, json: true }).filter(
      (name) => flags[name] !== undefined && flags[name] !== false,
    );
    return given.map((name) => (flags[name] === true ? `--${name}` : `--${name}=${flags[name]}`));
  }

  /** The resumed command has printed its value. */
  protected override logJson(): void {}

  protected override async catch(error: Error & { reported?: boolean }): Promise<void> {
    if (error.reported) throw error;
    await super.catch(error);
  }
}

/**
 * Returns the flag that confirms the command, as it was confirmed when it began: --yes, or the name of its
 * object. A name that was passed, and not typed, is among the saved arguments already.
 */
function confirmed(
  flags: Readonly<Record<string, Command.Flag.Any>>,
  args: readonly string[],
  name: string,
): string[] {
  const flag = ['yes', 'confirm'].find((one) => flags[one]);
  if (flag === undefined) return [];
  const { type, char } = flags[flag]!;
  if (type === 'boolean') return [`--${flag}`];
  const isPassed = args.some(
    (arg) => arg.split('=')[0] === `--${flag}` || (char && arg.startsWith(`-${char}`)),
  );
  return isPassed ? [] : [`--${flag}=${name}`];
}
