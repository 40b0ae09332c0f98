import { Flags } from '@oclif/core';
import { FeedctlError } from '../../engine/model/errors.ts';

const MS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
type Unit = keyof typeof MS;

const PART = /(\d{1,12}(?:\.\d{1,3})?)(ms|s|m|h|d)/g;
const WHOLE = /^(?:\d{1,12}(?:\.\d{1,3})?(?:ms|s|m|h|d))+$/;
const BARE = /^\d{1,12}(?:\.\d{1,3})?$/;

/** Returns whether a text is a duration with its units. */
export const isDuration = (text: string): boolean => WHOLE.test(text);

/**
 * Returns a duration in milliseconds: `250ms`, `1.5s`, `10m`, `1h30m`. `unit` is the unit of a number
 * without one; undefined: it has to have one. Throws USAGE.
 */
export function parseDuration(text: string, unit?: Unit): number {
  if (isDuration(text))
    return [...text.matchAll(PART)].reduce((sum, [, n, of]) => sum + Number(n) * MS[of as Unit], 0);
  if (BARE.test(text)) {
    if (unit !== undefined) return Number(text) * MS[unit];
    throw new FeedctlError('USAGE', `${text} has no unit: write ${text}s, ${text}m or ${text}h`);
  }
  throw new FeedctlError('USAGE', `${JSON.stringify(text)} is not a duration such as 30s, 10m or 1h30m`);
}

/** Returns a duration as it is typed, such as `90s` or `10m`. */
export function durationText(ms: number): string {
  const [unit = 'ms'] = (['d', 'h', 'm', 's'] as const).filter((one) => ms > 0 && ms % MS[one] === 0);
  return `${ms / MS[unit]}${unit}`;
}

interface Limits extends Record<string, unknown> {
  /** Unit of the flag's value, and of a number that is typed without one. */
  readonly unit: 's' | 'ms';
  readonly min?: number;
  readonly max?: number;
}

/** A flag with a duration. Its value is a number of `unit`. */
export const durationFlag = Flags.custom<number, Limits>({
  helpValue: '<30s>',
  defaultHelp: async ({ options: { default: given, unit } }) =>
    typeof given === 'number' ? durationText(given * MS[unit]) : undefined,
  parse: async (text, _, { unit, min, max }) => {
    const value = parseDuration(text, unit) / MS[unit];
    const limit = (number: number) => durationText(number * MS[unit]);
    if (min !== undefined && value < min)
      throw new FeedctlError('USAGE', `${text} is shorter than ${limit(min)}`);
    if (max !== undefined && value > max)
      throw new FeedctlError('USAGE', `${text} is longer than ${limit(max)}`);
    return value;
  },
});

/** A flag with a duration in seconds that is not accepted without a unit. */
export const secondsFlag = Flags.custom<number>({
  helpValue: '<15m>',
  parse: async (text) => parseDuration(text) / MS.s,
});
