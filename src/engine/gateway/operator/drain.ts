import type { Queryable } from '../../database/database.ts';
import { type GatewayState, gatewayStates } from '../../fleet/gateways.ts';
import { byShortId } from '../../fleet/shortIds.ts';
import { FeedctlError } from '../../model/errors.ts';
import { listGateways } from '../../store/processes.ts';
import { secondsSince } from '../../util/numbers.ts';
import { poll } from '../../util/poll.ts';
import { signOperatorToken } from '../tokens.ts';
import { askConnections, askGateway } from './connections.ts';

const POLL_MS = 100;
/** Asks a gateway who it is, and lists none of its sockets. */
const ONLY_ID = 'limit=0';

export interface DrainPlan {
  readonly gateway: GatewayState;
  /** Other gateways that are ready: its clients reconnect to them. */
  readonly others: number;
}

/**
 * Returns a gateway that answers, whose id is, or begins with, `text`, and what its drain would leave.
 * Throws GATEWAY_NOT_FOUND, USAGE for several gateways, GATEWAY_UNREACHABLE or GATEWAY_OTHER.
 */
export async function planDrain(db: Queryable, text: string): Promise<DrainPlan> {
  const gateways = await gatewayStates(db);
  const gateway = byShortId(gateways, text, 'gateway');
  await askConnections(gateway, await signOperatorToken(db), ONLY_ID);
  return { gateway, others: gateways.filter((one) => one !== gateway && one.ready).length };
}

/**
 * Ends one gateway as a SIGTERM does: it takes no more sockets, closes open ones one after the
 * other (1012), finishes requests, leaves the cluster, and its process exits with 0. Resolves when
 * the gateway has left. Throws GATEWAY_UNREACHABLE, GATEWAY_OTHER or STOP_TIMEOUT.
 */
export async function drainGateway(
  db: Queryable,
  gateway: { id: string; url: string },
  { timeoutMs, signal }: { timeoutMs: number; signal: AbortSignal },
): Promise<{ sockets: number; seconds: number }> {
  const startedAt = performance.now();
  const token = await signOperatorToken(db);
  const { id } = gateway;
  // A gateway of an older version would drain itself for another one.
  await askConnections(gateway, token, ONLY_ID);
  const { sockets } = await askGateway<{ sockets: number }>(gateway, token, '/admin/drain', 'POST');
  const hasLeft = async () => !(await listGateways(db)).some((row) => row.id === id);
  if (!(await poll(hasLeft, { everyMs: POLL_MS, timeoutMs, signal })))
    throw new FeedctlError(
      'STOP_TIMEOUT',
      `gateway ${id} is draining, and has not left after ${secondsSince(startedAt)} s`,
    );
  return { sockets, seconds: secondsSince(startedAt) };
}
