const TIMEOUT_MS = 2_000;

/** Whether the gateway at this URL takes requests now, whatever its heartbeat says. */
export async function isReady(url: string): Promise<boolean> {
  try {
    return (await fetch(new URL('/readyz', url), { signal: AbortSignal.timeout(TIMEOUT_MS) })).ok;
  } catch {
    return false;
  }
}
