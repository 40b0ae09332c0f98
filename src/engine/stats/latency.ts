/**
 * A histogram of milliseconds whose buckets are everywhere the same, so that those of many processes add up and a quantile
 * of the sum is one of all of them: averaging quantiles would not be. Four buckets each time it doubles, from 1 ms to 11
 * minutes: a quantile is off by 19% at most.
 */
const A_DOUBLING = 4;
export const LATENCY_BUCKETS = 80;

export const bucketOf = (ms: number): number =>
  ms <= 1 ? 0 : Math.min(LATENCY_BUCKETS - 1, Math.ceil(Math.log2(ms) * A_DOUBLING));

/** Where a bucket ends, in milliseconds; the last has no end. */
const boundOf = (bucket: number): number => 2 ** (bucket / A_DOUBLING);

/** As Prometheus' histogram_quantile: evenly spread within a bucket. Milliseconds; null where nothing was counted. */
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
