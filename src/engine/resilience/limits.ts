/**
 * Limits of the servers and of requests: timeouts, retries, breakers, sessions. Times are in
 * milliseconds. A poll interval or the timeout of one wait is at the top of the file that waits.
 */

/**
 * Retries of a user's request: 5 tries, the first included, and none begins later than 3 s after
 * it, as a client waits. Only idempotent work is retried. Messages are retried ten times through
 * their queue: `bus/failDelivery.ts`.
 */
export const REQUEST_RETRIES = { tries: 5, budgetMs: 3_000 } as const;

/**
 * Retries of one idempotent step of an operation: 30 s outlast a deadlock and a restart of the
 * server.
 */
export const SYSTEM_RETRIES = { tries: 10, budgetMs: 30_000 } as const;

/** A circuit opens at the first of these within the window, and then lets single calls probe. */
export const BREAKER = {
  windowMs: 30_000,
  /** With fewer calls in the window, shares are not significant. */
  minCalls: 20,
  failedShare: 0.5,
  /** Share of calls above the dependency's `slowMs`: its p95 is too slow. */
  slowShare: 0.05,
  timeoutsAMinute: 10,
  /** Time until the first probe; doubles with every failed probe. */
  probeAfterMs: 500,
  maxProbeAfterMs: 10_000,
} as const;

/**
 * Sessions of the gateway, apart from the worker's, so that neither starves the other. The server
 * cancels a statement after 5 s; the deadline of 7 s is for a server or a network that is silent.
 */
export const DATABASE_REQUESTS = {
  sessions: 10,
  waiting: 1_000,
  connectMs: 5_000,
  statementMs: 5_000,
  lockMs: 4_000,
  deadlineMs: 7_000,
  /** Limit of the p95 of calls: a slower one opens the circuit. */
  slowMs: 5_000,
} as const;

/**
 * Work of a role. Statements have no timeout, as backfills, trims and locks take long; batches have
 * 60 s. 16 sessions: on Citus a worker writes to eight shards concurrently. The server ends a
 * transaction that is idle for 30 s, as a stopped or swapped-out process would block other writers.
 * Any work ends after 600 s, the only sign of a silent network.
 */
export const DATABASE_WORK = {
  sessions: 16,
  waiting: 1_000,
  batchMs: 60_000,
  idleTransactionMs: 30_000,
  deadlineMs: 600_000,
} as const;

/** Concurrent and waiting calls of a broker. The driver has its own timeouts. */
export const BROKER = { concurrency: 256, waiting: 2_000 } as const;

/** Limits of the WebSockets of one gateway. */
export const SOCKETS = {
  /** Maximum number of open sockets; 0: unlimited. */
  perUser: 20,
  perIp: 1_000,
  /** Buffer of one slow client: larger than any post, and about 1,000 posts of usual length. */
  bufferedBytes: 1024 ** 2,
  /** Maximum size of a client's message, which is ignored. */
  payloadBytes: 4096,
  /** Maximum number of messages, pings and pongs of a client within a window. */
  inbound: 100,
  inboundWindowSeconds: 30,
  /** Interval of pings. Some proxies cut a connection that is silent for 30 s. */
  pingSeconds: 20,
} as const;

/**
 * Requests a minute; 0: unlimited. Each limit may be exceeded by `burstPercent` once in ten
 * minutes.
 */
export const REQUEST_LIMITS = {
  user: 100,
  /** Posts and follows among the requests of a user. */
  userWrites: 50,
  ip: 1_000,
  /** Requests without a valid token among those of an address. */
  ipUnauthenticated: 500,
  burstPercent: 20,
  /** Failed logins of one account in ten minutes; 0: unlimited. */
  failedLogins: 10,
} as const;
