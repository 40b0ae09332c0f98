import { urlBelow } from '../util/urlBelow.ts';

const TIMEOUT_MS = 2_000;

/** Returns true if the gateway at this URL takes requests now, independent of its heartbeat. */
export async function isReady(url: string): Promise<boolean> {
  try {
    return (await fetch(urlBelow(url, '/readyz'), { signal: AbortSignal.timeout(TIMEOUT_MS) })).ok;
  } catch {
    return false;
  }
}
