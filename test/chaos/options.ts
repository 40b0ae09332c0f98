import { parseArgs } from 'node:util';
import type { ClusterSize } from './cluster.ts';
import { FAULTS } from './faults/index.ts';

/** The variable that hands the options to the process of the tests. */
export const VARIABLE = 'FEEDCTL_TEST_CHAOS';

export interface ChaosOptions {
  /** Names of faults, in the order of a run. */
  readonly faults: readonly string[];
  /** Rounds of each fault. With `minutes` the faults come at random until the time is over. */
  readonly rounds: number;
  readonly minutes: number | undefined;
  readonly seed: number;
  /** Mean pause between two requests of one user, in milliseconds. */
  readonly paceMs: number;
  readonly size: ClusterSize;
  /** Directory of the reports. */
  readonly report: string;
  /** Name of a planted bug that every role has. */
  readonly planted: string | undefined;
  /** Prints each step. */
  readonly verbose: boolean;
}

export const LARGE: ClusterSize = { brokers: 3, workers: 3, gateways: 2, sentinels: true };
export const SMALL: ClusterSize = { brokers: 1, workers: 2, gateways: 2, sentinels: false };

export const USAGE = `Usage: npm run chaos -- [options]

  --fault NAME      run this fault only; may be repeated
  --rounds N        rounds of each fault (default 1)
  --minutes N       run faults at random for N minutes instead
  --seed N          begin with this seed (default: by the clock); the same seed brings the same choices
  --pace MS         mean pause between two requests of a user (default 400)
  --small           one broker, two workers, one Redis without sentinels
  --planted NAME    plant a bug in every role, which the checker has to find
  --report DIR      write chaos.json and chaos.html there (default: chaos-report)
  --verbose         print each step
  --list            list the faults and the bugs
`;

/** Reads the command line. Throws with a sentence for a wrong one. */
export function readOptions(args: readonly string[]): ChaosOptions & { readonly list: boolean } {
  const { values } = parseArgs({
    args: [...args],
    options: {
      fault: { type: 'string', multiple: true },
      rounds: { type: 'string', default: '1' },
      minutes: { type: 'string' },
      seed: { type: 'string', default: String(Date.now() % 1_000_000) },
      pace: { type: 'string', default: '400' },
      small: { type: 'boolean', default: false },
      planted: { type: 'string' },
      report: { type: 'string', default: 'chaos-report' },
      verbose: { type: 'boolean', default: false },
      list: { type: 'boolean', default: false },
    },
  });
  const names = FAULTS.map(({ name }) => name);
  for (const name of values.fault ?? [])
    if (!names.includes(name)) throw new Error(`no fault ${name}: --list shows all`);
  const whole = (name: string, text: string): number => {
    if (!/^[1-9]\d*$/.test(text)) throw new Error(`--${name} takes a whole number above 0, not ${text}`);
    return Number(text);
  };
  return {
    faults: values.fault ?? names,
    rounds: whole('rounds', values.rounds),
    minutes: values.minutes === undefined ? undefined : whole('minutes', values.minutes),
    seed: whole('seed', values.seed),
    paceMs: whole('pace', values.pace),
    size: values.small ? SMALL : LARGE,
    report: values.report,
    planted: values.planted,
    verbose: values.verbose,
    list: values.list,
  };
}
