import { randomUUID } from 'node:crypto';
import { STATUS_CODES } from 'node:http';
import type { FastifyError } from 'fastify';
import { type ErrorCode, isFeedctlError, messageOf } from '../model/errors.ts';
import type { Log } from '../telemetry/log.ts';

export const PROBLEM_TYPE = 'application/problem+json';

/** Codes of failures that the request caused. Their messages repeat only the request and public data. */
const REQUEST_STATUS: Partial<Record<ErrorCode, number>> = {
  GATEWAY_OTHER: 421,
  IDEMPOTENCY_KEY_REUSED: 422,
  INVALID_ID: 400,
  INVALID_TOKEN: 401,
  POST_EMPTY: 422,
  POST_NOT_FOUND: 404,
  POST_TOO_LONG: 422,
  RATE_LIMITED: 429,
  SELF_FOLLOW: 422,
  TEXT_INVALID: 422,
  USAGE: 400,
  USER_EXISTS: 409,
  USER_NOT_FOUND: 404,
  VERSION_CONFLICT: 409,
  WRONG_PASSWORD: 401,
};

/**
 * Details of failures with status 503. The message of such an error may name hosts, users and files,
 * so it goes to the log only.
 */
const UNAVAILABLE: Partial<Record<ErrorCode, string>> = {
  BROKER_OTHER_CLUSTER: 'the gateway reaches the broker of another cluster',
  BROKER_OTHER_LINEAGE: 'the broker has messages from another history of the database',
  CIRCUIT_OPEN: 'a server that the gateway needs failed too often',
  CLOCK_BEHIND: 'the clock of the database is behind',
  CLOCK_OFF: 'the clocks of the gateway and of the database differ too much',
  CONFIG_INVALID: 'the gateway is not configured correctly',
  DATABASE_COPIED: 'the database is a copy of that of the cluster',
  DATABASE_OTHER_CLUSTER: 'the gateway reaches the database of another cluster',
  DATABASE_POOLED: 'the gateway reaches the database through a pooler that loses sessions',
  DATABASE_READ_ONLY: 'the database takes no writes',
  DATABASE_REFUSED: 'the database refuses the gateway',
  DATABASE_TLS_FAILED: 'the gateway has no encrypted connection to the database',
  DATABASE_UNREACHABLE: 'the gateway cannot reach the database',
  DISK_FULL: 'a disk has no room',
  NODE_NUMBERS_EXHAUSTED: 'no id can be minted',
  NOT_LIVE: 'live updates are lost, or sockets are being caught up',
  OVERLOADED: 'too many calls wait for a server',
  QUEUE_FULL: 'a queue is full',
  TIMED_OUT: 'a server did not answer in time',
};

/** Retry-After of a failed dependency: a circuit breaker probes about as often. */
const RETRY_AFTER_SECONDS = 1;

/** Problem details (RFC 9457) with the code that commands print for the same failure. */
export interface Problem {
  /** A URN that ends in the code. */
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  readonly code: ErrorCode;
  /** Id of the log line with the reason. Only a 5xx has one. */
  readonly requestId?: string;
}

export interface ProblemAnswer {
  readonly problem: Problem;
  readonly headers: Readonly<Record<string, string>>;
}

/** A failure of the method: the path takes others. */
export interface WrongMethod {
  readonly allow?: string;
}

/** A failure that knows when a retry may succeed. */
export interface RetryLater {
  readonly retryAfterSeconds?: number;
}

/**
 * Returns the problem details of any failure. The reason of a 5xx is logged with the request id that
 * the client gets, and is kept from the client.
 */
export function problemOf(error: unknown, log: Log): ProblemAnswer {
  const known = isFeedctlError(error) ? error.code : undefined;
  const { statusCode } = error as Partial<FastifyError>;
  const status = statusCode ?? (known ? statusOf(known) : 500);
  const headers = headersOf(error, status);
  if (status < 500) return { problem: problem(status, known ?? 'USAGE', messageOf(error)), headers };
  const requestId = randomUUID();
  log.error({ requestId, code: known, reason: messageOf(error) }, 'request failed');
  const code = known && UNAVAILABLE[known] ? known : 'INTERNAL';
  const detail = `${UNAVAILABLE[code] ?? 'the server failed'}; its log has the reason`;
  return { problem: { ...problem(status, code, detail), requestId }, headers };
}

export const statusOf = (code: ErrorCode): number => REQUEST_STATUS[code] ?? (UNAVAILABLE[code] ? 503 : 500);

export const problem = (status: number, code: ErrorCode, detail: string): Problem => ({
  type: `urn:feedctl:error:${code}`,
  title: STATUS_CODES[status] ?? 'Error',
  status,
  detail,
  code,
});

function headersOf(error: unknown, status: number): Record<string, string> {
  const { retryAfterSeconds = RETRY_AFTER_SECONDS, allow } = error as RetryLater & WrongMethod;
  return {
    'content-type': PROBLEM_TYPE,
    ...((status === 429 || status === 503) && { 'retry-after': String(retryAfterSeconds) }),
    ...(status === 405 && allow !== undefined && { allow }),
    ...(status === 401 && { 'www-authenticate': 'Bearer' }),
  };
}
