import { Config } from '@oclif/core/config';
import { flush } from '@oclif/core/flush';
import { run } from '@oclif/core/run';
import type { FeedctlError } from '../engine/model/errors.ts';
import { isUnknownCommand, printError, toFeedctlError } from './errors.ts';

/** Runs one command line. Prints errors that no command has printed, such as an unknown command. */
export async function main(argv: string[], dir: string): Promise<void> {
  // After the reader has closed the pipe (`feedctl … | head -1`), output cannot be flushed any more.
  const closed = new Promise((done) => process.stdout.once('error', done));
  try {
    await run(argv, dir);
  } catch (error) {
    const exit = (error as { oclif?: { exit?: number } }).oclif?.exit;
    // `--help` and `--version` end by an "error" of status 0.
    if (exit === 0) process.exitCode = 0;
    else if (!(error as { reported?: boolean }).reported) {
      const mapped = isUnknownCommand(error) ? await explainUnknown(argv, dir, error) : toFeedctlError(error);
      printError(mapped, { json: argv.includes('--json'), debug: Boolean(process.env.DEBUG) });
      process.exitCode = mapped.exitStatus;
    }
  }
  await Promise.race([flush(), closed]);
}

/** Loads the modules that explain an unknown command. */
async function explainUnknown(argv: readonly string[], dir: string, error: unknown): Promise<FeedctlError> {
  const { unknownCommand } = await import('./unknownCommand.ts');
  return unknownCommand(argv, (await Config.load(dir)).commandIDs, error);
}
