import { statfs } from 'node:fs/promises';
import type { Config } from '../config/config.ts';
import type { Queryable } from '../database/types.ts';
import { parseBytes } from '../model/bytes.ts';
import type { FeedStorage } from '../model/feedStorage.ts';
import { type MeasuredStorage, readFeedStorage } from '../store/feedStorage.ts';

const DAY_SECONDS = 86_400;

type Disk = Pick<Config, 'databaseDisk' | 'embedded' | 'dataDir'>;

/** Returns what a worker has measured, with the space that is left; null before the first measurement. */
export async function readStorage(db: Queryable, disk: Disk): Promise<FeedStorage | null> {
  const measured = await readFeedStorage(db);
  if (!measured) return null;
  const freeAt = await freeSpace(disk);
  const servers = measured.servers.map(({ walRoomBytes, ...server }) => {
    const freeBytes = freeAt({ walRoomBytes, ...server });
    return { ...server, freeBytes, fullInSeconds: fullInSeconds(freeBytes, server.growthBytesPerDay) };
  });
  return { ...measured, servers };
}

/** A full disk does not grow. */
function fullInSeconds(freeBytes: number | null, growthBytesPerDay: number): number | null {
  if (freeBytes === null) return null;
  if (freeBytes === 0) return 0;
  return growthBytesPerDay > 0 ? Math.round((freeBytes / growthBytesPerDay) * DAY_SECONDS) : null;
}

/** PostgreSQL does not report the free space of its disk. An embedded server is on this machine. */
async function freeSpace({
  databaseDisk,
  embedded,
  dataDir,
}: Disk): Promise<(server: MeasuredStorage['servers'][number]) => number | null> {
  const size = databaseDisk === undefined ? undefined : parseBytes(databaseDisk);
  if (size !== undefined)
    return ({ databaseBytes, walRoomBytes }) => Math.max(0, size - databaseBytes - walRoomBytes);
  const free = embedded ? await statfs(dataDir).catch(() => undefined) : undefined;
  return () => (free ? free.bavail * free.bsize : null);
}
