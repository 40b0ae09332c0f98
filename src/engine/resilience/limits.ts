/**
 * How long, how often and how many, for every dependency: the defaults of the mission, in one place. Milliseconds.
 */

/**
 * Of a person's request: tries, the first included, and until when another one may begin. Only what may be done twice
 * is tried twice. The system's own work is tried ten times, through its queue: `bus/giveBack.ts`.
 */
export const REQUEST_RETRIES = { tries: 5, budgetMs: 3_000 } as const;

/** Of one step of long work, which may be done twice: a deadlock with fan-out passes, and so does a restart. */
export const SYSTEM_RETRIES = { tries: 10, budgetMs: 30_000 } as const;

/** A circuit breaker looks at the last 30 s, opens at the first of these, and lets one call probe after a while. */
export const BREAKER = {
  windowMs: 30_000,
  /** Fewer calls than this in the window prove nothing. */
  minCalls: 20,
  failedShare: 0.5,
  /** Of calls slower than the dependency's limit: p95 is past it. */
  slowShare: 0.05,
  timeoutsAMinute: 10,
  /** Until the first probe; doubles with every probe that fails. */
  probeAfterMs: 500,
  maxProbeAfterMs: 10_000,
} as const;

/**
 * The gateway's own sessions, apart from the worker's: neither starves the other. The server cancels a statement
 * first; the deadline is for a server, or a network, that says nothing any more.
 */
export const DATABASE_REQUESTS = {
  sessions: 10,
  waiting: 1_000,
  connectMs: 5_000,
  statementMs: 5_000,
  lockMs: 4_000,
  deadlineMs: 7_000,
  /** 95 of 100 calls are to be faster than this. */
  slowMs: 5_000,
} as const;

/**
 * A role’s own work: no limit on statements, as it backfills, trims and waits for locks; batches have a deadline. On
 * Citus a worker writes to eight shards at a time. A transaction whose process says nothing any more, stopped or swapped
 * out, holds up whoever writes the same rows: the server ends it after `idleTransactionMs`. `deadlineMs`: of any work,
 * as nobody else would notice that its network says nothing any more.
 */
export const DATABASE_WORK = {
  sessions: 16,
  waiting: 1_000,
  batchMs: 60_000,
  idleTransactionMs: 30_000,
  deadlineMs: 600_000,
} as const;

/** Calls of a broker at a time, and those that wait. How long one takes at most its driver knows. */
export const BROKER = { concurrency: 256, waiting: 2_000 } as const;

/** Of the WebSockets of one gateway. */
export const SOCKETS = {
  /** Open at a time; 0: any number. */
  perUser: 20,
  perIp: 1_000,
  /** What one slow client may keep in this process's memory: more than any post, and 1,000 posts of usual length. */
  bufferedBytes: 1024 ** 2,
  /** Of a message that a client sends; they have nothing to say. */
  payloadBytes: 4096,
  /** Messages and pings of a client between two heartbeats, 30 s. */
  inbound: 100,
} as const;

/** Requests a minute that a gateway answers; 0: any number. `burstPercent` more, once in ten minutes. */
export const REQUEST_LIMITS = {
  user: 100,
  /** Of those, posts and follows. */
  userWrites: 50,
  ip: 1_000,
  /** Of those, without a valid token. */
  ipUnauthenticated: 500,
  burstPercent: 20,
  /** Wrong passwords of one account in ten minutes; 0: any number. */
  failedLogins: 10,
} as const;
