import { formatBytes, formatCount, formatDuration, formatMs, formatRate } from '../terminal/format.ts';

const words = (name: string): string => name.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);

/** `posts: 3` as `3 posts`; times, sizes and rates with their units; ids without commas. */
function valueText(name: string, value: number): string {
  if (name === 'seconds') return formatDuration(value);
  if (name.endsWith('PerSecond')) return `${formatRate(value)} ${words(name.slice(0, -9))}/s`;
  if (name === 'bytes') return formatBytes(value);
  if (/(^i|I)d$/.test(name)) return `${words(name).replace(/ id$/, '')} ${value}`;
  const noun = value === 1 ? words(name).replace(/ies$/, 'y').replace(/s$/, '') : words(name);
  return `${Number.isInteger(value) ? formatCount(value) : value.toFixed(1)} ${noun}`;
}

/** A part of a result. Values that say nothing are left out: null, false, an empty list. */
function part(name: string, value: unknown): string | undefined {
  if (typeof value === 'number') return valueText(name, value);
  if (value === true) return words(name);
  if (typeof value === 'string') return value === '' ? undefined : `${words(name)} ${value}`;
  if (Array.isArray(value))
    return value.length > 0 ? `${formatCount(value.length)} ${words(name)}` : undefined;
  if (typeof value !== 'object' || value === null) return undefined;
  if (name.endsWith('Ms')) {
    const times = Object.entries(value).flatMap(([key, ms]) =>
      typeof ms === 'number' ? [`${key} ${formatMs(ms)}`] : [],
    );
    return `${words(name.slice(0, -2))} ${times.join(' ')}`;
  }
  const text = resultText(value as { readonly [name: string]: unknown });
  return text && `${words(name)} (${text})`;
}

/** The result of an operation in words: `20,000 posts, 108,437 deliveries, 750 ms`. */
export const resultText = (result: { readonly [name: string]: unknown }): string =>
  Object.entries(result)
    .flatMap(([name, value]) => part(name, value) ?? [])
    .join(', ');
