import type { IncomingHttpHeaders, IncomingMessage } from 'node:http';
import { type Cursor, parseCursor } from '../live/cursor.ts';
import { FeedctlError, isFeedctlError, messageOf } from '../model/errors.ts';
import type { Clock } from '../store/databaseClock.ts';
import type { Log } from '../telemetry/log.ts';
import type { Admitted } from './authenticate.ts';
import type { RetryLater } from './problems.ts';

const PATH = '/post/feed/posted';

/** A request that may become a socket. */
export interface Admission extends Admitted {
  readonly address: string;
  /** Position from which the client resumes; undefined for a new client. */
  readonly after: Cursor | undefined;
}

/** The status line with which a request is refused. */
export interface Refusal {
  readonly refused: string;
  readonly retryAfterSeconds?: number | undefined;
}

export const TOO_MANY = '429 Too Many Requests';
/** The gateway drains, or a dependency fails: another gateway may admit the client. */
const UNAVAILABLE: Refusal = { refused: '503 Service Unavailable', retryAfterSeconds: 1 };

export interface AdmissionContext {
  /** Checks the token or the ticket of a query. Throws INVALID_TOKEN or RATE_LIMITED. */
  readonly authenticate: (query: URLSearchParams, address: string) => Promise<Admitted>;
  /** Returns the address of a client, as limits count it. */
  readonly addressOf: (request: IncomingMessage) => string;
  readonly clock: Clock;
  readonly log: Log;
}

/** Checks a request for a socket. Checks that need no database come first. */
export async function admit(
  request: IncomingMessage,
  context: AdmissionContext,
  options: { origins: readonly string[]; draining: boolean },
): Promise<Admission | Refusal> {
  const url = URL.parse(`http://gateway${request.url ?? '/'}`);
  if (!url) return { refused: '400 Bad Request' };
  if (url.pathname !== PATH) return { refused: '404 Not Found' };
  if (options.draining) return UNAVAILABLE;
  if (!isAllowed(request.headers, options.origins)) return { refused: '403 Forbidden' };
  const address = context.addressOf(request);
  try {
    const text = url.searchParams.get('after');
    const after = text ? parseCursor(text, context.clock.now()) : undefined;
    const { userId, until } = await context.authenticate(url.searchParams, address);
    return { userId, until, address, after };
  } catch (error) {
    return refusalOf(error, context.log);
  }
}

function refusalOf(error: unknown, log: Log): Refusal {
  if (isFeedctlError(error, 'INVALID_TOKEN')) return { refused: '401 Unauthorized' };
  if (isFeedctlError(error, 'INVALID_CURSOR') || isFeedctlError(error, 'INVALID_ID'))
    return { refused: '400 Bad Request' };
  if (isFeedctlError(error, 'RATE_LIMITED'))
    return { refused: TOO_MANY, retryAfterSeconds: (error as RetryLater).retryAfterSeconds };
  log.warn({ reason: messageOf(error) }, 'socket refused');
  return UNAVAILABLE;
}

/**
 * Throws CONFIG_INVALID for an origin that is not spelt as browsers send it, without a path and in
 * lower case: it would match no request.
 */
export function checkOrigins(origins: readonly string[]): void {
  for (const origin of origins) {
    if (origin !== 'null' && URL.parse(origin)?.origin !== origin)
      throw new FeedctlError('CONFIG_INVALID', `${origin} is no origin; an example is https://app.example`);
  }
}

/** Allows the page that the gateway serves itself, under any host name and behind any proxy. */
function isAllowed({ origin, host }: IncomingHttpHeaders, origins: readonly string[]): boolean {
  if (origin === undefined || origins.length === 0 || origins.includes(origin)) return true;
  return host !== undefined && URL.parse(origin)?.host === host.toLowerCase();
}
