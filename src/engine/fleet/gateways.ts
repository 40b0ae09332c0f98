import type { Queryable } from '../database/database.ts';
import { type GatewayRow, HEARTBEAT_TIMEOUT_MS, listGateways } from '../store/processes.ts';
import { whyNotReady } from './notReady.ts';

export const isAlive = (row: { heartbeatAgeMs: number }): boolean =>
  row.heartbeatAgeMs < HEARTBEAT_TIMEOUT_MS;

export type GatewayState = GatewayRow & {
  /** It is alive, and takes requests at its URL now. */
  readonly ready: boolean;
  /** Why it is not ready; null if it is. */
  readonly reason: string | null;
};

/**
 * Returns every gateway that has registered and not left. Each one is asked over HTTP if it is
 * ready.
 */
export async function gatewayStates(db: Queryable): Promise<GatewayState[]> {
  return Promise.all(
    (await listGateways(db)).map(async (row) => {
      const reason = isAlive(row) ? await whyNotReady(row) : 'its last heartbeat is too old';
      return { ...row, ready: reason === null, reason };
    }),
  );
}

/** A URL of several gateways that are alive. It leads to one of them at most. */
export interface SharedUrl {
  readonly url: string;
  readonly gatewayIds: readonly string[];
}

export function sharedUrls(gateways: readonly GatewayState[]): SharedUrl[] {
  const living = gateways.filter((row) => isAlive(row) && (row.ready || !row.replaced));
  const idsByUrl = Map.groupBy(living, ({ url }) => url);
  return [...idsByUrl]
    .filter(([, rows]) => rows.length > 1)
    .map(([url, rows]) => ({ url, gatewayIds: rows.map(({ id }) => id) }));
}

export const sharedUrlText = ({ url, gatewayIds }: SharedUrl): string =>
  `the gateways ${gatewayIds.join(' and ')} are registered at one URL, ${url}`;
