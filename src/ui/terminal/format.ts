import { formatBytes } from '../../engine/model/bytes.ts';

export { formatBytes };

/** 1,234,567 */
export const formatCount = (value: number): string => Math.round(value).toLocaleString('en-US');

const COMPACT = new Intl.NumberFormat('en-US', { notation: 'compact', maximumSignificantDigits: 3 });
/** 12.3K, 1.2M: for columns that are too narrow for all digits. */
export const formatCompact = (value: number): string => COMPACT.format(value);

/** 850 ms, 2.4 s, 3 m 05 s, 2 h 05 m, 4 d 02 h */
export function formatDuration(seconds: number): string {
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const two = (value: number, per: number, units: string): string => {
    const whole = Math.round(value);
    return `${Math.floor(whole / per)} ${units[0]} ${String(whole % per).padStart(2, '0')} ${units[1]}`;
  };
  if (seconds < 3_599.5) return two(seconds, 60, 'ms');
  if (seconds < 86_370) return two(seconds / 60, 60, 'hm');
  return two(seconds / 3_600, 24, 'dh');
}

/** A bar of `width` cells that is `fraction` full. */
export function bar(fraction: number, width: number): string {
  const full = Math.round(Math.min(1, Math.max(0, fraction)) * width);
  return '█'.repeat(full) + '░'.repeat(width - full);
}

/**
 * Returns a text as one line of at most `width` characters, without control characters: texts of
 * users must not control the terminal.
 */
export function oneLine(text: string, width: number): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are replaced
  const clean = text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]+/g, ' ');
  // Removes half of a surrogate pair.
  return clean.length > width ? `${clean.slice(0, width - 1).replace(/[\ud800-\udbff]$/, '')}…` : clean;
}

/** 0, 0.3, 12.5, 1,234 */
export const formatRate = (perSecond: number): string =>
  perSecond > 0 && perSecond < 100 && !Number.isInteger(perSecond)
    ? String(perSecond)
    : formatCount(perSecond);

/** 0.8 ms, 12 ms, 2.4 s */
export function formatMs(ms: number): string {
  if (ms < 9.95) return `${ms.toFixed(1)} ms`;
  if (ms < 999.5) return `${Math.round(ms)} ms`;
  return ms < 59_950 ? `${(ms / 1_000).toFixed(1)} s` : `${Math.round(ms / 1_000)} s`;
}
