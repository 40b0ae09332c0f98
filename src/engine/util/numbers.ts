/** Rounds to one decimal place, for figures that people read. */
export const tenths = (value: number): number => Math.round(value * 10) / 10;

/** Seconds since `startedAt`, a time of `performance.now()`, with one decimal place. */
export const secondsSince = (startedAt: number): number => tenths((performance.now() - startedAt) / 1_000);
