import { Args, Flags } from '@oclif/core';
import { DEFAULT_CELEBRITY_THRESHOLD } from '../../engine/model/celebrity.ts';
import { FeedctlError } from '../../engine/model/errors.ts';
import { parseId } from '../../engine/model/ids.ts';
import { isDuration, parseDuration } from './durations.ts';

const idArg = (what: string) => Args.custom<number>({ parse: async (text) => parseId(text, what) });

/** Arguments and flags of several commands. */
export const userArg = idArg('user');
export const postArg = idArg('post');
export const operationArg = () =>
  idArg('operation')({ description: 'id of the operation', required: true as const });

export const portFlag = Flags.integer({
  description: 'port of the gateway; 0: a free one',
  default: 7070,
  min: 0,
  max: 65_535,
});
// The default adds `dryRun` to the JSON even without the flag.
export const dryRunFlag = Flags.boolean({
  description: 'show what would be done, without changing anything',
  default: false,
});
export const yesFlag = Flags.boolean({ char: 'y', description: 'confirm without being asked' });

/** Returns the user, or undefined if a flag of `others` is given. Throws USAGE unless exactly one is. */
export function oneOfUsers(
  user: number | undefined,
  others: Readonly<Record<string, unknown>>,
): number | undefined {
  const given = [user, ...Object.values(others)].filter((value) => value !== undefined && value !== false);
  if (given.length !== 1) {
    const flags = Object.keys(others).map((name) => `--${name}`);
    throw new FeedctlError(
      'USAGE',
      `no feed, or more than one, was chosen: pass one of USER, ${flags.join(', ')}`,
    );
  }
  return user;
}

/** A range such as `20-1000`; `5` is the range from 5 to 5. */
export const rangeFlag = Flags.custom<[number, number]>({
  helpValue: '<from-to>',
  // Help shows the default as it is typed.
  defaultHelp: async ({ options }) => {
    const given = options.default as [number, number] | (() => Promise<[number, number]>) | undefined;
    const range = typeof given === 'function' ? await given() : given;
    return range?.join('-');
  },
  parse: async (text) => {
    const match = /^(\d{1,9})(?:-(\d{1,9}))?$/.exec(text);
    if (!match) throw new FeedctlError('USAGE', `${JSON.stringify(text)} is not a range such as 20-1000`);
    return [Number(match[1]), Number(match[2] ?? match[1])];
  },
});

export const celebrityThresholdFlag = Flags.integer({
  description: 'number of followers above which an author’s posts are merged when feeds are read',
  default: DEFAULT_CELEBRITY_THRESHOLD,
  min: 0,
});

/** A time in the past: ISO 8601, or an age (`90s`, `15m`, `2h`, `7d`). */
export const timeFlag = Flags.custom<Date>({
  helpValue: '<time|15m>',
  parse: async (text) => {
    const age = isDuration(text) ? parseDuration(text) : undefined;
    const iso = /^\d{4}-\d\d-\d\d/.test(text) ? text : Number.NaN;
    const time = new Date(age === undefined ? iso : Date.now() - age);
    if (Number.isNaN(time.getTime()))
      throw new FeedctlError(
        'USAGE',
        `${JSON.stringify(text)} is not a time such as 2026-07-01T12:00:00Z or 15m`,
      );
    return time;
  },
});
