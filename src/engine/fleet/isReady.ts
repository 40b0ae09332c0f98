import { ERRORS, type ErrorCode } from '../model/errors.ts';
import { urlBelow } from '../util/urlBelow.ts';

const TIMEOUT_MS = 2_000;

const ask = (url: string): Promise<Response> =>
  fetch(urlBelow(url, '/readyz'), { signal: AbortSignal.timeout(TIMEOUT_MS) });

/** Returns true if the gateway at this URL takes requests now, independent of its heartbeat. */
export async function isReady(url: string): Promise<boolean> {
  try {
    return (await ask(url)).ok;
  } catch {
    return false;
  }
}

/** Returns the code for which a gateway takes no requests. Undefined if it takes them or does not answer. */
export async function refusalOf(url: string): Promise<ErrorCode | undefined> {
  try {
    const { code } = (await (await ask(url)).json()) as { code?: string };
    return code !== undefined && code in ERRORS ? (code as ErrorCode) : undefined;
  } catch {
    return undefined;
  }
}
