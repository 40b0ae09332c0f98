import { Config } from '@oclif/core/config';
import { flush } from '@oclif/core/flush';
import { run } from '@oclif/core/run';
import type { FeedctlError } from '../engine/model/errors.ts';
import { isUnknownCommand, printError, toFeedctlError } from './errors.ts';
import { flagWords, printedFormat } from './outputFormat.ts';

/** A command that has only the flags of all commands. */
const PLAIN_COMMAND = 'version';

/** Runs one command line. Prints errors that no command has printed, such as an unknown command. */
export async function main(argv: string[], dir: string): Promise<void> {
  // After the reader has closed the pipe (`feedctl … | head -1`), output cannot be flushed any more.
  const closed = new Promise((done) => process.stdout.once('error', done));
  if (flagWords(argv).includes('--no-color')) {
    process.env.NO_COLOR = '1';
    delete process.env.FORCE_COLOR;
  }
  let line = argv;
  try {
    line = await inOrder(argv, dir);
    await run(line, dir);
  } catch (error) {
    const exit = (error as { oclif?: { exit?: number } }).oclif?.exit;
    // `--help` and `--version` end by an "error" of status 0.
    if (exit === 0) process.exitCode = 0;
    else if (!(error as { reported?: boolean }).reported) {
      const mapped = isUnknownCommand(error) ? await explainUnknown(line, dir, error) : toFeedctlError(error);
      await printError(mapped, { format: printedFormat(line), debug: Boolean(process.env.DEBUG) });
      process.exitCode = mapped.exitStatus;
    }
  }
  await Promise.race([flush(), closed]);
}

/** Moves flags behind the command. A line that begins with its command needs no look at the flags. */
async function inOrder(argv: string[], dir: string): Promise<string[]> {
  if (!argv[0]?.startsWith('-') || argv[0] === '--help' || argv[0] === '-h') return argv;
  const { ordered } = await import('./commandLine.ts');
  const { flags } = (await Config.load(dir)).findCommand(PLAIN_COMMAND, { must: true });
  return ordered(
    argv,
    Object.fromEntries(Object.entries(flags).filter(([, one]) => one.helpGroup === 'GLOBAL')),
  );
}

/** Loads the modules that explain an unknown command. */
async function explainUnknown(argv: readonly string[], dir: string, error: unknown): Promise<FeedctlError> {
  const { unknownCommand } = await import('./unknownCommand.ts');
  return unknownCommand(argv, (await Config.load(dir)).commandIDs, error);
}
