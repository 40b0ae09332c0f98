import { isFeedctlError, messageOf } from '../model/errors.ts';
import type { GatewayRow } from '../store/processes.ts';
import { urlBelow } from '../util/urlBelow.ts';
import { addressedTo, checkSender, senderOf } from './addressee.ts';

const TIMEOUT_MS = 2_000;

/**
 * Asks a gateway whether it takes requests now, independent of its heartbeat. Returns why it does not, or
 * null if it does.
 */
export async function whyNotReady({ id, url }: Pick<GatewayRow, 'id' | 'url'>): Promise<string | null> {
  const meant = { gateway: id };
  try {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const response = await fetch(urlBelow(url, '/readyz'), { headers: addressedTo(meant), signal });
    checkSender(meant, senderOf(response.headers), url);
    if (response.ok) return null;
    const { detail } = (await response.json().catch(() => ({}))) as { detail?: string };
    return `it answers ${response.status}${detail ? `: ${detail}` : ''}`;
  } catch (error) {
    if (isFeedctlError(error)) return error.message;
    return `it does not answer: ${messageOf((error as Error).cause ?? error)}`;
  }
}

/**
 * Checks that the gateway behind a URL that a person has configured is of this cluster. Throws GATEWAY_OTHER.
 * A gateway that does not answer is left to the request that follows.
 */
export async function checkCluster(url: string, cluster: string): Promise<void> {
  const meant = { cluster };
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const request = fetch(urlBelow(url, '/readyz'), { headers: addressedTo(meant), signal });
  const response = await request.catch(() => undefined);
  if (response) checkSender(meant, senderOf(response.headers), url);
}
