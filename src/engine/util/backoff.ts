const FIRST_DELAY_MS = 100;
const MAX_DELAY_MS = 10_000;

/**
 * How long to wait after the nth failure in a row: doubling from 100 ms to 10 s, with full jitter, so that those who
 * failed together do not come back together.
 */
export const backoffMs = (failures: number): number =>
  Math.random() * Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** (failures - 1));
