import { globSync } from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { temporaryDirectory } from './cli.ts';

/** Debian and Fedora, Alpine and others. */
const LIBRARY = globSync('/usr/{lib/*,lib64,lib}/faketime/libfaketime.so.1')[0];

/** Returns whether processes can have clocks of their own: libfaketime is installed. */
export function canFakeTime(): boolean {
  if (LIBRARY) return true;
  const reason = 'no libfaketime: install the package faketime';
  if (process.env.FEEDCTL_TEST_REQUIRE === 'all') throw new Error(reason);
  process.stderr.write(`\n*** TESTS SKIPPED, ${reason} ***\n\n`);
  return false;
}

export interface MachineClock {
  /** Variables of a process that has this clock. Its monotonic clock is the real one. */
  readonly env: Record<string, string>;
  /** Sets the clock, also of running processes, to so many seconds from the real time. */
  set(aheadSeconds: number): Promise<void>;
}

/** Makes a clock for processes, as if they ran on another machine. */
export async function machineClock(aheadSeconds: number): Promise<MachineClock> {
  const file = join(await temporaryDirectory(), 'clock');
  const set = async (seconds: number) => {
    await writeFile(`${file}.next`, `${seconds < 0 ? '' : '+'}${seconds}\n`);
    // Processes read the file with each look at the clock, so it is never half written.
    await rename(`${file}.next`, file);
  };
  await set(aheadSeconds);
  const env = {
    LD_PRELOAD: LIBRARY!,
    FAKETIME_TIMESTAMP_FILE: file,
    FAKETIME_NO_CACHE: '1',
    FAKETIME_DONT_FAKE_MONOTONIC: '1',
    // The name of the variable before version 0.9.8.
    DONT_FAKE_MONOTONIC: '1',
  };
  return { env, set };
}
