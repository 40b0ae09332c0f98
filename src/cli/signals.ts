/** A shutdown that takes longer reports what it waits for. */
const STUCK_AFTER_MS = 15_000;
const FORCED_EXIT_STATUS = 130;

/**
 * Returns a signal that aborts at the first SIGINT or SIGTERM. The second one ends the process immediately.
 * `drawing`: a live view is on the screen, and text on stderr would damage it. `stuckAt`: what the shutdown
 * waits for.
 */
export function listenForSignals(drawing: () => boolean, stuckAt: () => string | undefined): AbortSignal {
  const controller = new AbortController();
  const onSignal = () => {
    if (controller.signal.aborted) process.exit(FORCED_EXIT_STATUS);
    controller.abort();
    if (process.stderr.isTTY && !drawing())
      process.stderr.write('\nStopping. Press Ctrl-C again to stop immediately.\n');
    setTimeout(() => {
      process.stderr.write(`Still stopping${stuckAt() ? `: ${stuckAt()}` : ''}.\n`);
    }, STUCK_AFTER_MS).unref();
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  return controller.signal;
}

/** Waits for the signal, or for `other` if that ends first. Keeps the process alive meanwhile. */
export async function aborted<T = never>(signal: AbortSignal, other?: Promise<T>): Promise<T | undefined> {
  const alive = setInterval(() => {}, 1 << 30);
  const stop = Promise.withResolvers<undefined>();
  const onAbort = () => stop.resolve(undefined);
  signal.addEventListener('abort', onAbort);
  if (signal.aborted) onAbort();
  try {
    return await (other ? Promise.race([stop.promise, other]) : stop.promise);
  } finally {
    clearInterval(alive);
    signal.removeEventListener('abort', onAbort);
  }
}
