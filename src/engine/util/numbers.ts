/** Rounds to one decimal place, for numbers that people read. */
export const tenths = (value: number): number => Math.round(value * 10) / 10;

/** Returns the seconds since `startedAt`, a time of `performance.now()`, with one decimal place. */
export const secondsSince = (startedAt: number): number => tenths((performance.now() - startedAt) / 1_000);
