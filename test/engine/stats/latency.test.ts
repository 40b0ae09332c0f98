import fc from 'fast-check';
import { expect, test } from 'vitest';
import { bucketOf, LATENCY_BUCKETS, quantile } from '../../../src/engine/stats/latency.ts';

test('a quantile of many processes is within a fifth of that of all their values', () => {
  const values = fc.array(fc.double({ min: 1, max: 600_000, noNaN: true }), { minLength: 1, maxLength: 200 });
  fc.assert(
    fc.property(fc.array(values, { minLength: 1, maxLength: 4 }), (processes) => {
      const counts = new Float64Array(LATENCY_BUCKETS);
      for (const one of processes) for (const ms of one) counts[bucketOf(ms)]! += 1;
      const sorted = processes.flat().sort((a, b) => a - b);
      for (const share of [0.5, 0.99]) {
        const exact = sorted[Math.ceil(share * sorted.length) - 1]!;
        expect(quantile(counts, share)! / exact).toBeGreaterThan(0.83);
        expect(quantile(counts, share)! / exact).toBeLessThan(1.2);
      }
    }),
    { numRuns: 100 },
  );
});

test('nothing has no quantile; what is out of range is in the last bucket', () => {
  expect(quantile(new Float64Array(LATENCY_BUCKETS), 0.5)).toBeNull();
  expect(bucketOf(0)).toBe(0);
  expect(bucketOf(-5)).toBe(0);
  expect(bucketOf(1e12)).toBe(LATENCY_BUCKETS - 1);
});
