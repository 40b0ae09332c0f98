/**
 * A histogram of milliseconds. Its buckets are equal in all processes, so their counts add up, and
 * a quantile of the sum is that of all processes; an average of quantiles is not. Four buckets per
 * doubling, from 1 ms to 11 minutes: a quantile is off by at most 19%.
 */
const BUCKETS_PER_DOUBLING = 4;
export const LATENCY_BUCKETS = 80;

export const bucketOf = (ms: number): number =>
  ms <= 1 ? 0 : Math.min(LATENCY_BUCKETS - 1, Math.ceil(Math.log2(ms) * BUCKETS_PER_DOUBLING));

/** Upper bound of a bucket in milliseconds; the last bucket has none. */
const boundOf = (bucket: number): number => 2 ** (bucket / BUCKETS_PER_DOUBLING);

/**
 * Returns a quantile in milliseconds, interpolated within a bucket as Prometheus does; null without
 * counts.
 */
export function quantile(counts: ArrayLike<number>, share: number): number | null {
  let total = 0;
  for (let i = 0; i < counts.length; i += 1) total += counts[i]!;
  if (total === 0) return null;
  let before = 0;
  for (let i = 0; i < counts.length; i += 1) {
    const count = counts[i]!;
    if (count === 0 || before + count < share * total) {
      before += count;
      continue;
    }
    const from = i === 0 ? 0 : boundOf(i - 1);
    const ms = from + ((boundOf(i) - from) * (share * total - before)) / count;
    return Number(ms.toPrecision(3));
  }
  return boundOf(counts.length - 1);
}
