const FIRST_DELAY_MS = 100;
const MAX_DELAY_MS = 10_000;

/**
 * Returns the delay after the nth failure in a row. It doubles from 100 ms to 10 s, with full
 * jitter, so that processes that failed together do not return together.
 */
export const backoffMs = (failures: number): number =>
  Math.random() * Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** (failures - 1));
