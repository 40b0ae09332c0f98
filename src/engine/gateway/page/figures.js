// Texts of figures. A null is not known.

const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const UNKNOWN = '–';

export const countText = (count) => (count === null ? UNKNOWN : whole.format(count));

export const perSecondText = (rate) =>
  rate === null ? UNKNOWN : `${(rate < 100 ? short : whole).format(rate)}/s`;

export const percentText = (share) => (share === null ? UNKNOWN : `${whole.format(share * 100)}%`);

export function msText(ms) {
  if (ms === null) return UNKNOWN;
  return ms < 1_000 ? `${(ms < 10 ? short : whole).format(ms)} ms` : secondsText(ms / 1_000);
}

export function secondsText(seconds) {
  if (seconds === null) return UNKNOWN;
  if (seconds < 90) return `${(seconds < 10 ? short : whole).format(seconds)} s`;
  return seconds < 5_400 ? `${whole.format(seconds / 60)} min` : `${short.format(seconds / 3_600)} h`;
}

export const bytesText = (bytes) => (bytes === null ? UNKNOWN : `${whole.format(bytes / 2 ** 20)} MiB`);
