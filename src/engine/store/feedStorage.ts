import { feedPartitionState, sumSizes } from '../database/feedPartitions.ts';
import { claimTurn } from '../database/leader.ts';
import { serverStorage } from '../database/serverStorage.ts';
import type { Store } from '../database/sharding.ts';
import type { Queryable } from '../database/types.ts';
import type { FeedStorage, ServerSpace } from '../model/feedStorage.ts';
import { DATABASE_NOW } from './databaseClock.ts';

const SETTING = 'storage.feeds';
/** Less than the interval of the workers, whose turns come at the same time. */
const TURN_SECONDS = 25;
const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** WAL a row over fewer rows would show what else the servers write. */
const MIN_ROWS = 1_000;

/** Counters at one time. A rate is the difference of two of them. */
interface Sample {
  readonly atMs: number;
  /** Bytes of WAL by server, since its installation. */
  readonly wal: Readonly<Record<string, number>>;
  /** Feed rows inserted since the first sample. */
  readonly rows: number;
  /** Bytes of the database by server. */
  readonly bytes: Readonly<Record<string, number>>;
}

interface Recorded {
  readonly partitions: number;
  readonly rows: number;
  readonly bytes: number;
  readonly oldestMs: number | null;
  readonly walRoomBytes: Readonly<Record<string, number>>;
  /** Rows ever inserted, by partition. A partition that is removed takes its count along. */
  readonly inserted: Readonly<Record<string, number>>;
  readonly last: Sample;
  /** Samples of the last minutes and of the last day, the oldest first. */
  readonly minutes: readonly Sample[];
  readonly hours: readonly Sample[];
}

/** What `measureFeedStorage` has recorded, before the sizes of the disks are known. */
export interface MeasuredStorage extends Omit<FeedStorage, 'servers'> {
  readonly servers: readonly (Pick<ServerSpace, 'server' | 'databaseBytes' | 'growthBytesPerDay'> & {
    /** WAL that the server may keep on its disk. */
    readonly walRoomBytes: number;
  })[];
}

async function readRecorded(db: Queryable): Promise<{ recorded: Recorded; nowMs: number } | undefined> {
  const { rows } = await db.query<{ recorded: Recorded; nowMs: number }>(
    `select value as recorded, ${DATABASE_NOW} as "nowMs" from settings where name = $1`,
    [SETTING],
  );
  return rows[0];
}

/**
 * Measures feed rows, databases and WAL for all processes, unless another worker has just done it. Keeps
 * samples, because rates need an earlier one. `nowMs`: unix milliseconds. Throws if a server does not answer.
 */
export async function measureFeedStorage(db: Store, nowMs: number): Promise<void> {
  if (await claimTurn(db, 'storage.measuredAt', TURN_SECONDS)) await recordFeedStorage(db, nowMs);
}

/** `measureFeedStorage` without regard to other workers. */
export async function recordFeedStorage(db: Store, nowMs: number): Promise<void> {
  const servers = await serverStorage(db);
  const sizes = sumSizes(servers.map((server) => server.sizes));
  const { count, rows, bytes, oldestMs = null } = await feedPartitionState(db, nowMs, sizes);
  const before = (await readRecorded(db))?.recorded;
  const inserted = Object.fromEntries([...sizes].map(([name, size]) => [name, size.inserted]));
  const grown = before
    ? Object.entries(inserted).map(([name, now]) => Math.max(0, now - (before.inserted[name] ?? 0)))
    : [];
  const byServer = (of: 'databaseBytes' | 'walBytes' | 'walRoomBytes') =>
    Object.fromEntries(servers.map((server) => [server.server, server[of]]));
  const last: Sample = {
    atMs: nowMs,
    wal: byServer('walBytes'),
    rows: grown.reduce((sum, one) => sum + one, before?.last.rows ?? 0),
    bytes: byServer('databaseBytes'),
  };
  const recorded: Recorded = {
    ...{ partitions: count, rows, bytes, oldestMs, inserted, last },
    walRoomBytes: byServer('walRoomBytes'),
    minutes: withSample(before?.minutes, last, MINUTE_MS, 5 * MINUTE_MS),
    hours: withSample(before?.hours, last, HOUR_MS, DAY_MS),
  };
  await db.query(
    `insert into settings (name, value) values ($1, $2)
     on conflict (name) do update set value = excluded.value
     where (settings.value #>> '{last,atMs}')::float8 = $3`,
    [SETTING, JSON.stringify(recorded), before?.last.atMs ?? 0],
  );
}

/** Adds a sample if the last one is old enough, and leaves out those before the period. */
function withSample(
  samples: readonly Sample[] = [],
  sample: Sample,
  everyMs: number,
  periodMs: number,
): Sample[] {
  const kept = samples.filter(({ atMs }) => atMs >= sample.atMs - periodMs);
  return (kept.at(-1)?.atMs ?? 0) <= sample.atMs - everyMs ? [...kept, sample] : kept;
}

/** Returns the last measurement, or undefined before the first one. */
export async function readFeedStorage(db: Queryable): Promise<MeasuredStorage | undefined> {
  const found = await readRecorded(db);
  if (!found) return undefined;
  const { partitions, rows, bytes, oldestMs, walRoomBytes, last, minutes, hours } = found.recorded;
  return {
    measuredAt: new Date(last.atMs).toISOString(),
    ageMs: Math.max(0, Math.round(found.nowMs - last.atMs)),
    ...{ partitions, rows, bytes },
    oldestAt: oldestMs === null ? null : new Date(oldestMs).toISOString(),
    walBytesPerRow: walPerRow(minutes[0], last) ?? walPerRow(hours[0], last),
    servers: Object.entries(last.bytes).map(([server, databaseBytes]) => ({
      server,
      databaseBytes,
      walRoomBytes: walRoomBytes[server] ?? 0,
      growthBytesPerDay: growthADay(hours, last, server),
    })),
  };
}

/** Returns null with few rows, and after a restore, which sets the counters back. */
function walPerRow(from: Sample | undefined, to: Sample): number | null {
  const rows = to.rows - (from?.rows ?? to.rows);
  // A server that was added since has WAL of before.
  const written = Object.entries(to.wal).flatMap(([server, bytes]) => {
    const before = from?.wal[server];
    return before === undefined ? [] : [bytes - before];
  });
  if (rows < MIN_ROWS || written.length === 0 || written.some((bytes) => bytes < 0)) return null;
  return Math.round(written.reduce((sum, bytes) => sum + bytes, 0) / rows);
}

/** An hour at least: the first minutes of a cluster are no rate of a day. */
function growthADay(samples: readonly Sample[], to: Sample, server: string): number {
  const from = samples.find(({ bytes }) => bytes[server] !== undefined);
  if (!from) return 0;
  const grown = to.bytes[server]! - from.bytes[server]!;
  return Math.round((grown / Math.max(HOUR_MS, to.atMs - from.atMs)) * DAY_MS);
}
