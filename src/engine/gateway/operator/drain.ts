import { setTimeout as sleep } from 'node:timers/promises';
import type { Queryable } from '../../database/database.ts';
import { type GatewayState, gatewayStates } from '../../fleet/gateways.ts';
import { FeedctlError } from '../../model/errors.ts';
import { listGateways } from '../../store/processes.ts';
import { signOperatorToken } from '../tokens.ts';
import { askGateway } from './connections.ts';

const POLL_MS = 100;

export interface DrainPlan {
  readonly gateway: GatewayState;
  /** Other gateways that take requests now: where its clients go. */
  readonly others: number;
}

/** Throws GATEWAY_NOT_FOUND. */
export async function planDrain(db: Queryable, id: string): Promise<DrainPlan> {
  const gateways = await gatewayStates(db);
  const gateway = gateways.find((one) => one.id === id);
  if (!gateway) throw new FeedctlError('GATEWAY_NOT_FOUND', `there is no gateway ${id}`);
  return { gateway, others: gateways.filter((one) => one !== gateway && one.ready).length };
}

/**
 * Lets one gateway end as a SIGTERM does: it takes no more sockets, closes those that are open one after the other (1012),
 * finishes requests, leaves the cluster, and its process exits with 0. Resolves when it has left. Throws
 * GATEWAY_UNREACHABLE or STOP_TIMEOUT.
 */
export async function drainGateway(
  db: Queryable,
  { id, url }: { id: string; url: string },
  options: { timeoutMs: number; signal: AbortSignal },
): Promise<{ sockets: number; seconds: number }> {
  const startedAt = performance.now();
  const seconds = () => Math.round((performance.now() - startedAt) / 100) / 10;
  const token = await signOperatorToken(db);
  const { sockets } = await askGateway<{ sockets: number }>(url, token, '/admin/drain', 'POST');
  while ((await listGateways(db)).some((row) => row.id === id)) {
    if (performance.now() - startedAt > options.timeoutMs)
      throw new FeedctlError(
        'STOP_TIMEOUT',
        `gateway ${id} is draining, and has not left after ${seconds()} s`,
      );
    await sleep(POLL_MS, undefined, { signal: options.signal });
  }
  return { sockets, seconds: seconds() };
}
