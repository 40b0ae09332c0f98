/** A timer fires at most this many milliseconds early. */
const EARLY_MS = 5;

/**
 * Returns the milliseconds until the next multiple of `ms` since the start of the process. Periodic work that
 * waits for it shares one awakening of an idle process, which costs more than most of that work.
 */
export function untilTick(ms: number): number {
  const now = performance.now();
  return (Math.floor((now + Math.min(EARLY_MS, ms / 2)) / ms) + 1) * ms - now;
}

/** Calls `work` at every multiple of `ms`. Returns a function that ends it. */
export function everyTick(ms: number, work: () => void): () => void {
  let timer: NodeJS.Timeout;
  const run = () => {
    timer = setTimeout(run, untilTick(ms));
    work();
  };
  timer = setTimeout(run, untilTick(ms));
  return () => clearTimeout(timer);
}
