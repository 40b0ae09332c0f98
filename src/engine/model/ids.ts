import { FeedctlError } from './errors.ts';

/**
 * Ids have 53 bits: a JS number, a JSON number, a Redis score and a bigint represent them exactly.
 *
 *     41 bits  milliseconds since 2010-01-01 (until 2079)
 *      6 bits  node: number 0-62 that the minting process has leased; 63: imported post
 *      6 bits  sequence within the millisecond: 64,000 ids a second for each node
 */
const EPOCH_MS = Date.UTC(2010, 0, 1);
const SEQUENCES = 64;
const NODES = 64;
/** Ids of one millisecond. */
export const IDS_PER_MS = NODES * SEQUENCES;

export const IMPORT_NODE = NODES - 1;
/** Greatest id. Also the floor of a feed that is not materialized: no post is above it. */
export const MAX_ID = Number.MAX_SAFE_INTEGER;
/** Maximum posts of an imported file that have the same second: each gets a different id. */
export const IMPORTS_PER_SECOND = 1000 * SEQUENCES;
/** Maximum milliseconds that a burst may run ahead of the clock: an id contains its time. */
const MAX_AHEAD_MS = 50;

const idOf = (ms: number, node: number, sequence: number): number =>
  (ms - EPOCH_MS) * IDS_PER_MS + node * SEQUENCES + sequence;

/** Returns the unix milliseconds in an id. */
export const timeOfId = (id: number): number => Math.floor(id / IDS_PER_MS) + EPOCH_MS;

/** Returns whether a post was imported: its id contains the post's own time, not that of its arrival. */
export const isImported = (id: number): boolean => Math.floor(id / SEQUENCES) % NODES === IMPORT_NODE;

/** Returns whether a post was imported with a time in the future. */
export const isAhead = (id: number, now = Date.now()): boolean => isImported(id) && timeOfId(id) > now;

/** Returns the smallest id of a millisecond. */
export const firstIdAt = (unixMs: number): number => idOf(unixMs, 0, 0);

/**
 * Returns the id of an imported post from its time and its rank among the posts of that second, in
 * file order. Importing a file twice gives the same ids.
 */
export function importedId(unixSeconds: number, rank: number): number {
  const ms = unixSeconds * 1000 + Math.floor(rank / SEQUENCES);
  return idOf(ms, IMPORT_NODE, rank % SEQUENCES);
}

/** Unix seconds that an imported post may have: 2010-01-01 to the end of 53 bits. */
export const IMPORT_SECONDS = { min: EPOCH_MS / 1000, max: Math.floor(timeOfId(MAX_ID) / 1000) - 1 };

/** Lease of a node number: no other process uses `node` until `untilMs`. */
export interface NodeLease {
  readonly node: number;
  /** Start in unix milliseconds: after every id that an earlier owner of the number may have minted. */
  readonly fromMs: number;
  /** End in unix milliseconds. Each renewal extends it. */
  readonly untilMs: () => number;
}

/** Mints ids in rising order, until the end of the lease. */
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

  /** Returns how many milliseconds ids run ahead of the clock. */
  get aheadMs(): number {
    return Math.max(0, this.#lastMs - this.#now());
  }

  /** Returns the next id. undefined: ids run ahead too far, or the lease has ended. */
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

/** Parses a user or post id of a command line or a request. Throws INVALID_ID. */
export function parseId(text: string, what: string): number {
  const id = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(id) || id < 1) {
    throw new FeedctlError('INVALID_ID', `${JSON.stringify(text.slice(0, 40))} is no ${what} id`);
  }
  return id;
}
