import { writeSync } from 'node:fs';
import { isDiskFull } from '../engine/model/diskFull.ts';
import { FeedctlError, messageOf } from '../engine/model/errors.ts';

const STDERR = 2;

/**
 * Ends the process when stdout cannot be written, with an error in place of a stack trace. A reader that has
 * closed its pipe is no failure. The listener comes before that of oclif, which throws.
 */
export function watchOutput(stdout: NodeJS.WriteStream): void {
  stdout.prependListener('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') return;
    const reason = isDiskFull(error) ? 'no space left on device' : messageOf(error);
    const failure = new FeedctlError('OUTPUT_FAILED', `cannot write the output: ${reason}`);
    const { code, message, suggestions, exitStatus } = failure;
    writeSync(STDERR, `Error: ${message} (${code})\n  Try: ${suggestions[0]}\n`);
    process.exit(exitStatus);
  });
}
