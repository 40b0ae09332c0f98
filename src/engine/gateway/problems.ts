import { STATUS_CODES } from 'node:http';
import type { FastifyError } from 'fastify';
import { type ErrorCode, isFeedctlError, messageOf } from '../model/errors.ts';
import type { Log } from '../telemetry/log.ts';

export const PROBLEM_TYPE = 'application/problem+json';

/** Codes with a status other than 500. */
const HTTP_STATUS: Partial<Record<ErrorCode, number>> = {
  CIRCUIT_OPEN: 503,
  CLOCK_BEHIND: 503,
  CONFIG_INVALID: 400,
  DATABASE_POOLED: 503,
  DATABASE_READ_ONLY: 503,
  DATABASE_REFUSED: 503,
  DATABASE_TLS_FAILED: 503,
  DATABASE_UNREACHABLE: 503,
  IDEMPOTENCY_KEY_REUSED: 422,
  INVALID_ID: 400,
  INVALID_TOKEN: 401,
  NODE_NUMBERS_EXHAUSTED: 503,
  NOT_LIVE: 503,
  OVERLOADED: 503,
  POST_EMPTY: 422,
  POST_NOT_FOUND: 404,
  POST_TOO_LONG: 422,
  QUEUE_FULL: 503,
  RATE_LIMITED: 429,
  SELF_FOLLOW: 422,
  TEXT_INVALID: 422,
  TIMED_OUT: 503,
  USAGE: 400,
  USER_EXISTS: 409,
  USER_NOT_FOUND: 404,
  VERSION_CONFLICT: 409,
  WRONG_PASSWORD: 401,
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
}

export interface ProblemAnswer {
  readonly problem: Problem;
  readonly headers: Readonly<Record<string, string>>;
}

/** A failure that knows when a retry may succeed. */
export interface RetryLater {
  readonly retryAfterSeconds?: number;
}

/**
 * Returns the problem details of any failure. Logs the reason of a 5xx, which a 500 keeps from the
 * client.
 */
export function problemOf(error: unknown, log: Log): ProblemAnswer {
  const known = isFeedctlError(error);
  const { statusCode } = error as Partial<FastifyError>;
  const status = statusCode ?? (known ? HTTP_STATUS[error.code] : undefined) ?? 500;
  if (status >= 500) log.error({ reason: messageOf(error) }, 'request failed');
  const detail = status === 500 ? 'the server failed; its log has the reason' : messageOf(error);
  const code = known && status !== 500 ? error.code : status < 500 ? 'USAGE' : 'INTERNAL';
  return { problem: problem(status, code, detail), headers: headersOf(error, status) };
}

export const problem = (status: number, code: ErrorCode, detail: string): Problem => ({
  type: `urn:feedctl:error:${code}`,
  title: STATUS_CODES[status] ?? 'Error',
  status,
  detail,
  code,
});

function headersOf(error: unknown, status: number): Record<string, string> {
  const { retryAfterSeconds = RETRY_AFTER_SECONDS } = error as RetryLater;
  return {
    'content-type': PROBLEM_TYPE,
    ...((status === 429 || status === 503) && { 'retry-after': String(retryAfterSeconds) }),
    ...(status === 401 && { 'www-authenticate': 'Bearer' }),
  };
}
