import { FeedctlError, isFeedctlError, messageOf } from './errors.ts';

/** Text of the C library, which PostgreSQL, initdb and Node repeat. */
const TEXT = /no space left on device|disk quota exceeded/i;
/** ENOSPC and EDQUOT of the system, and PostgreSQL's SQLSTATE. */
const CODES: readonly unknown[] = ['ENOSPC', 'EDQUOT', '53100'];

/** Returns whether a disk has no room: by the code of an error, or by the text of a program's log. */
export const isDiskFull = (error: unknown): boolean =>
  CODES.includes((error as { code?: unknown } | undefined)?.code) || TEXT.test(messageOf(error));

/** Returns DISK_FULL for an error of a full disk below `path`, and other errors unchanged. */
export function explainDiskFull(error: unknown, path: string): unknown {
  if (!isDiskFull(error) || isFeedctlError(error, 'DISK_FULL')) return error;
  // A program's log may have many lines, of which one says what could not be written.
  const lines = messageOf(error).split('\n');
  const reason = lines.find((line) => TEXT.test(line)) ?? lines[0];
  return new FeedctlError('DISK_FULL', `the disk of ${path} is full: ${reason}`, {
    cause: error,
    suggestions: [`Make room in ${path}, then run the same command again.`],
  });
}
