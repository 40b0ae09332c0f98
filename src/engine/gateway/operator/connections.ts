import type { Queryable } from '../../database/database.ts';
import { addressedTo, checkSender, senderOf } from '../../fleet/addressee.ts';
import { ERRORS, type ErrorCode, FeedctlError, isFeedctlError, messageOf } from '../../model/errors.ts';
import { type GatewayRow, listGateways } from '../../store/processes.ts';
import { urlBelow } from '../../util/urlBelow.ts';
import type { ConnectionsAnswer } from '../routes/admin.ts';
import { signOperatorToken } from '../tokens.ts';

const TIMEOUT_MS = 5_000;

/** A registered gateway, or what answers at a URL. */
type Asked = Pick<GatewayRow, 'url'> & Partial<Pick<GatewayRow, 'id'>>;

/**
 * Sends one request to a gateway as an operator. Throws GATEWAY_UNREACHABLE if it does not answer,
 * GATEWAY_OTHER if another gateway answers, and the code of its refusal if it refuses.
 */
export async function askGateway<T>(
  { id, url }: Asked,
  token: string,
  path: string,
  method: 'GET' | 'POST' = 'GET',
): Promise<T> {
  const meant = { gateway: id };
  let response: Response;
  let answer: unknown;
  try {
    response = await fetch(urlBelow(url, path), {
      method,
      headers: { authorization: `Bearer ${token}`, ...addressedTo(meant) },
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    checkSender(meant, senderOf(response.headers), url);
    answer = await response.json();
  } catch (error) {
    if (isFeedctlError(error)) throw error;
    const why = messageOf((error as Error).cause ?? error);
    throw new FeedctlError('GATEWAY_UNREACHABLE', `the gateway at ${url} does not answer: ${why}`, {
      cause: error,
    });
  }
  if (response.ok) return answer as T;
  const { code, detail = '' } = answer as { code?: string; detail?: string };
  const knownCode = code !== undefined && code in ERRORS ? (code as ErrorCode) : 'GATEWAY_UNREACHABLE';
  throw new FeedctlError(knownCode, `the gateway at ${url} answers ${response.status}: ${detail}`);
}

/**
 * Asks a gateway for its open sockets. Throws as `askGateway` does. A gateway of an older version does not
 * refuse a request that means another one, but this answer of it holds its id.
 */
export async function askConnections(
  gateway: Asked,
  token: string,
  query: string,
): Promise<ConnectionsAnswer> {
  const answer = await askGateway<ConnectionsAnswer>(gateway, token, `/admin/connections?${query}`);
  checkSender({ gateway: gateway.id }, { gateway: answer.gatewayId }, gateway.url);
  return answer;
}

export interface ListedConnection {
  readonly userId: number;
  readonly gatewayId: string;
  readonly gatewayUrl: string;
  readonly address: string;
  readonly since: string;
  /** Bytes that wait in the gateway until the client reads them. */
  readonly bufferedBytes: number;
  /** Posts sent on this socket. */
  readonly delivered: number;
  readonly lastDeliveredMsAgo: number | null;
}

export interface ConnectionList {
  readonly connections: readonly ListedConnection[];
  /** Open sockets at the gateways that answered, listed or not. */
  readonly total: number;
  /** Gateways that did not answer: their sockets are unknown. */
  readonly unreachable: readonly { gatewayId: string; url: string; reason: string }[];
}

/**
 * Lists open sockets of all gateways, or those of one user; each gateway lists at most `limit`.
 * Throws GATEWAY_UNREACHABLE if there are gateways and none answers, and GATEWAY_OTHER if others do.
 */
export async function listConnections(
  db: Queryable,
  query: { userId?: number; limit: number },
): Promise<ConnectionList> {
  const gateways = await listGateways(db);
  const token = await signOperatorToken(db);
  const parameters = new URLSearchParams({ limit: String(query.limit) });
  if (query.userId !== undefined) parameters.set('user', String(query.userId));
  const ask = (gateway: GatewayRow) => askConnections(gateway, token, String(parameters));
  const answers = await Promise.allSettled(gateways.map(ask));
  const connections: ListedConnection[] = [];
  const unreachable: ConnectionList['unreachable'][number][] = [];
  let total = 0;
  for (const [n, answer] of answers.entries()) {
    const { id, url } = gateways[n]!;
    if (answer.status === 'rejected') {
      unreachable.push({ gatewayId: id, url, reason: messageOf(answer.reason) });
      continue;
    }
    total += answer.value.total;
    for (const { userId, ...rest } of answer.value.connections)
      connections.push({ userId: Number(userId), gatewayId: id, gatewayUrl: url, ...rest });
  }
  if (gateways.length > 0 && unreachable.length === gateways.length)
    throw new FeedctlError(
      answers.every(isOther) ? 'GATEWAY_OTHER' : 'GATEWAY_UNREACHABLE',
      unreachable.map(({ reason }) => reason).join('; '),
    );
  return { connections, total, unreachable };
}

const isOther = (answer: PromiseSettledResult<unknown>): boolean =>
  answer.status === 'rejected' && isFeedctlError(answer.reason, 'GATEWAY_OTHER');
