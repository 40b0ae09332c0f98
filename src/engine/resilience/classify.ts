import { ERRORS, type Failure, isFeedctlError, messageOf } from '../model/errors.ts';

/** Names of system errors of sockets and name servers. */
const SOCKET: ReadonlySet<string> = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ECONNABORTED',
  'EPIPE',
  'ETIMEDOUT',
  'ESOCKETTIMEDOUT',
  'ENOTFOUND',
  'EAI_AGAIN',
  'ENOENT',
  'EACCES',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENETDOWN',
  'EHOSTDOWN',
  'EADDRNOTAVAIL',
]);

/**
 * SQLSTATE classes (https://www.postgresql.org/docs/current/errcodes-appendix.html): 08 connection,
 * 40 transaction rollback, 53 out of resources, 55P03 lock not available, 57 operator intervention,
 * 58 system (disk) errors, 25006 a server that has just become a standby, 25P03 an idle
 * transaction. 28 (a password) and 42501 (a grant) are for an operator to fix: the message is not
 * at fault.
 */
const TRANSIENT_SQLSTATE = /^(08|28|40|53|57|58|42501|55P03|55006|25006|25P03)/;
/** 22 data that no column takes, 23502 and 23514 rows that no table takes, 42601 syntax. */
const PERMANENT_SQLSTATE = /^(22|23502|23514|42601)/;
const SQLSTATE = /^[0-9A-Z]{5}$/;

/**
 * AMQP reply codes (https://www.rabbitmq.com/amqp-0-9-1-reference#constants). 403 access refused,
 * 404 no such queue, 405 locked by another connection and 406 other arguments may end when a
 * process declares the queues, so they are unknown. A broker that stops replies 320; one that runs
 * out of resources replies 506 or 541.
 */
const AMQP: Record<number, Failure> = {
  311: 'permanent', // content too large
  312: 'unknown', // no route: returned
  313: 'transient', // no consumers
  320: 'transient', // connection forced
  402: 'unknown', // invalid path: no such virtual host
  403: 'unknown',
  404: 'unknown',
  405: 'unknown',
  406: 'unknown',
  501: 'transient', // frame error: the connection is closed
  502: 'permanent', // syntax error
  503: 'permanent', // command invalid
  504: 'transient', // channel error: the channel is closed
  505: 'transient', // unexpected frame: the connection is closed
  506: 'transient', // resource error
  530: 'unknown', // not allowed
  540: 'permanent', // a method that the broker does not have
  541: 'transient', // internal error
};

/**
 * First words of Redis's replies
 * (https://redis.io/docs/latest/develop/reference/protocol-spec/#simple-errors).
 */
const REDIS_TRANSIENT =
  /^(LOADING|READONLY|MOVED|ASK|TRYAGAIN|CLUSTERDOWN|MASTERDOWN|BUSY|OOM|NOREPLICAS|UNBLOCKED)\b/;
const REDIS_PERMANENT = /^WRONGTYPE\b/;

/** Messages of pg, amqplib and ioredis that have no code. */
const TRANSIENT_TEXT = new RegExp(
  [
    /connection (is |was )?(ended|terminated|closed|closing|lost)/,
    /channel (ended|closed|closing)/,
    /socket (closed|hang)/,
    /unexpected close/,
    /timed out/,
    /time-?out/,
    /not currently accepting connections/,
    /not queryable/,
    /message nacked/,
    /stream isn't writeable/,
    /max ?retries ?per ?request/,
  ]
    .map(({ source }) => source)
    .join('|'),
  'i',
);

/**
 * Decides whether an error of a driver or of the engine is worth a retry. For an error of the
 * engine it is the class of its code in `model/errors.ts`; for a code without a class, that of its
 * cause.
 */
export function classify(error: unknown): Failure {
  if (isFeedctlError(error)) {
    const row: { exit: number; failure?: Failure } = ERRORS[error.code];
    return row.failure ?? (error.cause === undefined ? 'unknown' : classify(error.cause));
  }
  if (!(error instanceof Error)) return 'unknown';
  // The caller gave up: the work itself did not fail.
  if (error.name === 'AbortError' || error.name === 'TimeoutError') return 'transient';
  const { code } = error as { code?: unknown };
  if (typeof code === 'number') return AMQP[code] ?? byText(error);
  if (typeof code === 'string') {
    if (SOCKET.has(code)) return 'transient';
    if (SQLSTATE.test(code)) {
      if (TRANSIENT_SQLSTATE.test(code)) return 'transient';
      return PERMANENT_SQLSTATE.test(code) ? 'permanent' : byText(error);
    }
  }
  return byText(error);
}

function byText(error: Error): Failure {
  if (error instanceof AggregateError && error.errors.length > 0)
    return error.errors.every((one) => classify(one) === 'transient') ? 'transient' : 'unknown';
  const text = messageOf(error);
  if (REDIS_PERMANENT.test(text)) return 'permanent';
  return REDIS_TRANSIENT.test(text) || TRANSIENT_TEXT.test(text) || error.name === 'MaxRetriesPerRequestError'
    ? 'transient'
    : 'unknown';
}

export const isTransient = (error: unknown): boolean => classify(error) === 'transient';
