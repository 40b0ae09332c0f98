import { FeedctlError } from './errors.ts';

/**
 * Ids are 53 bits, so that a JS number, a JSON number, a Redis score and a bigint all hold one exactly:
 *
 *     41 bits  milliseconds since 2010-01-01 (until 2079)
 *      6 bits  node: a leased number 0-62 of the process that minted it; 63 marks an imported post
 *      6 bits  sequence within that millisecond: 64,000 ids a second for each node
 */
const EPOCH_MS = Date.UTC(2010, 0, 1);
const SEQUENCES = 64;
const NODES = 64;
/** Ids of one millisecond. */
export const IDS_PER_MS = NODES * SEQUENCES;

export const IMPORT_NODE = NODES - 1;
/** Also the floor of a feed that is not materialized at all: nothing is above it. */
export const MAX_ID = Number.MAX_SAFE_INTEGER;
/** Rows of one second of an imported file that get an id of their own. */
export const IMPORTS_PER_SECOND = 1000 * SEQUENCES;
/** An id says when it was minted, so a burst may run ahead of the clock by no more than this many milliseconds. */
const MAX_AHEAD_MS = 50;

const idOf = (ms: number, node: number, sequence: number): number =>
  (ms - EPOCH_MS) * IDS_PER_MS + node * SEQUENCES + sequence;

/** Unix milliseconds at which `id` was minted. */
export const timeOfId = (id: number): number => Math.floor(id / IDS_PER_MS) + EPOCH_MS;

/** Whether the post was imported: its id is of its own time, and says nothing about when it came. */
export const isImported = (id: number): boolean => Math.floor(id / SEQUENCES) % NODES === IMPORT_NODE;

/** Whether it was imported with a time that has not come yet. */
export const isAhead = (id: number, now = Date.now()): boolean => isImported(id) && timeOfId(id) > now;

/** The smallest id of that millisecond. */
export const firstIdAt = (unixMs: number): number => idOf(unixMs, 0, 0);

/**
 * The id of an imported post: its own time (unix seconds) and its rank among the rows of that second, in file
 * order. Importing the same file twice gives the same ids.
 */
export function importedId(unixSeconds: number, rank: number): number {
  const ms = unixSeconds * 1000 + Math.floor(rank / SEQUENCES);
  return idOf(ms, IMPORT_NODE, rank % SEQUENCES);
}

/** Seconds an imported post may carry: 2010-01-01 up to what 53 bits hold. */
export const IMPORT_SECONDS = { min: EPOCH_MS / 1000, max: Math.floor(timeOfId(MAX_ID) / 1000) - 1 };

/** The right to mint: `node` is this process's own while the clock has not passed `untilMs`. */
export interface NodeLease {
  readonly node: number;
  /** Unix milliseconds from which this process may mint: past everything an earlier owner of the number could have. */
  readonly fromMs: number;
  /** Unix milliseconds up to which it may; moves on with each renewal. */
  readonly untilMs: () => number;
}

/** Mints ids in rising order under a lease. Nothing is minted past the end of the lease. */
export class IdMint {
  #lastMs: number;
  #sequence = SEQUENCES - 1;
  readonly #lease: NodeLease;
  readonly #now: () => number;

  constructor(lease: NodeLease, now: () => number = Date.now) {
    this.#lease = lease;
    this.#now = now;
    this.#lastMs = lease.fromMs - 1;
  }

  /** Milliseconds that ids already run ahead of the clock. */
  get aheadMs(): number {
    return Math.max(0, this.#lastMs - this.#now());
  }

  /** The next id, or undefined where the burst allowance is spent or the lease is over. */
  tryNext(): number | undefined {
    const now = this.#now();
    let ms = Math.max(now, this.#lastMs);
    let sequence = ms === this.#lastMs ? this.#sequence + 1 : 0;
    if (sequence === SEQUENCES) {
      ms += 1;
      sequence = 0;
    }
    if (ms - now > MAX_AHEAD_MS || ms > this.#lease.untilMs()) return undefined;
    this.#lastMs = ms;
    this.#sequence = sequence;
    return idOf(ms, this.#lease.node, sequence);
  }
}

/** A user or post id as a person or a client wrote it. Throws INVALID_ID. */
export function parseId(text: string, what: string): number {
  const id = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(id) || id < 1) {
    throw new FeedctlError('INVALID_ID', `${JSON.stringify(text.slice(0, 40))} is no ${what} id`);
  }
  return id;
}
