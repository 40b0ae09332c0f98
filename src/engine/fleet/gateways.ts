import type { Queryable } from '../database/database.ts';
import { type GatewayRow, HEARTBEAT_TIMEOUT_MS, listGateways } from '../store/processes.ts';
import { isReady } from './isReady.ts';

export const isAlive = (row: { heartbeatAgeMs: number }): boolean =>
  row.heartbeatAgeMs < HEARTBEAT_TIMEOUT_MS;

/** `ready`: it is alive and takes requests now. */
export type GatewayState = GatewayRow & { readonly ready: boolean };

/**
 * Returns every gateway that has registered and not left. Each one is asked over HTTP if it is
 * ready.
 */
export async function gatewayStates(db: Queryable): Promise<GatewayState[]> {
  return Promise.all(
    (await listGateways(db)).map(async (row) => ({
      ...row,
      ready: isAlive(row) && (await isReady(row.url)),
    })),
  );
}
