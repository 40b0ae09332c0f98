import { formatBytes } from './bytes.ts';

/** Older measurements show their age, and are not exported: workers measure every 30 s. */
export const OLD_MEASUREMENT_MS = 120_000;

const HOUR_SECONDS = 3_600;
const DAY_SECONDS = 24 * HOUR_SECONDS;
/** A disk that is full sooner is a warning. */
const FULL_SOON_SECONDS = 7 * DAY_SECONDS;

/** Size and growth of the database at one server. */
export interface ServerSpace {
  /** `host:port` on Citus, otherwise `database`. */
  readonly server: string;
  readonly databaseBytes: number;
  /** Growth of the last day, or since the first measurement. Below 0 the database shrinks. */
  readonly growthBytesPerDay: number;
  /** Bytes of the disk that the database can still use; null: not known. */
  readonly freeBytes: number | null;
  /** Seconds until the disk is full at that growth; null: not known, or the database does not grow. */
  readonly fullInSeconds: number | null;
}

/** Feed rows and the disks that hold them, as a worker has measured them. */
export interface FeedStorage {
  readonly measuredAt: string;
  readonly ageMs: number;
  /** Partitions of feed rows. */
  readonly partitions: number;
  /** Feed rows, by the servers' statistics. */
  readonly rows: number;
  /** Bytes of the feed rows, with indexes. */
  readonly bytes: number;
  /** Begin of the oldest partition that has a begin. */
  readonly oldestAt: string | null;
  /**
   * All WAL that the servers wrote, divided by the feed rows that were inserted: over the last minutes or,
   * with few rows, the last day. null: too few rows.
   */
  readonly walBytesPerRow: number | null;
  readonly servers: readonly ServerSpace[];
}

/** Returns the age of the oldest partition in seconds at a time, or null without one that has a begin. */
export const oldestSeconds = ({ oldestAt }: Pick<FeedStorage, 'oldestAt'>, at: string): number | null =>
  oldestAt === null ? null : (Date.parse(at) - Date.parse(oldestAt)) / 1_000;

/** Finite, so that two of them are equal. */
const orLast = (value: number | null): number => value ?? Number.MAX_VALUE;

/** Returns the server whose disk is full first, or else the one with the least space. */
export const firstFull = ({ servers }: FeedStorage): ServerSpace | undefined =>
  servers.toSorted(
    (a, b) => orLast(a.fullInSeconds) - orLast(b.fullInSeconds) || orLast(a.freeBytes) - orLast(b.freeBytes),
  )[0];

export const isFullSoon = (space: ServerSpace | undefined): boolean =>
  (space?.fullInSeconds ?? Infinity) < FULL_SOON_SECONDS;

/** `5.2 days`, `more than a year` */
export function timeLeft(seconds: number): string {
  if (seconds >= 365 * DAY_SECONDS) return 'more than a year';
  if (seconds < 2 * DAY_SECONDS) return `${Math.round(seconds / HOUR_SECONDS)} h`;
  return `${(seconds / DAY_SECONDS).toFixed(1)} days`;
}

/** When the first disk is full, and the figures that this follows from. */
export function spaceText(storage: FeedStorage): string {
  const space = firstFull(storage);
  if (!space || space.freeBytes === null)
    return 'not known when it is full: FEEDCTL_DATABASE_DISK gives its size, such as 500GiB';
  const { server, freeBytes, growthBytesPerDay, fullInSeconds } = space;
  const where = storage.servers.length > 1 ? ` at ${server}` : '';
  const free = `${formatBytes(freeBytes)} free${where}`;
  if (fullInSeconds === null) return `${free}, the database does not grow`;
  return `${free}, full in ${timeLeft(fullInSeconds)} at ${formatBytes(growthBytesPerDay)} a day`;
}
