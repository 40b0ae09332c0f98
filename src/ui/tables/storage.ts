import { type FeedStorage, spaceText } from '../../engine/model/feedStorage.ts';
import { formatBytes, formatCount, formatDuration } from '../terminal/format.ts';

/** Lines about feed rows and the disks that hold them. */
export function storageLines(storage: FeedStorage | null): string {
  if (!storage) return 'feed rows: not measured yet';
  const { rows, bytes, partitions, oldestAt, walBytesPerRow, measuredAt } = storage;
  const oldestSeconds = oldestAt === null ? null : (Date.parse(measuredAt) - Date.parse(oldestAt)) / 1_000;
  const counts = [
    `about ${formatCount(rows)}, ${formatBytes(bytes)} in ${formatCount(partitions)} partitions`,
    ...(oldestSeconds === null ? [] : [`the oldest began ${formatDuration(oldestSeconds)} before`]),
    ...(walBytesPerRow === null ? [] : [`${formatBytes(walBytesPerRow)} of WAL a row`]),
  ];
  return `feed rows: ${counts.join(', ')}; measured ${measuredAt}\ndatabase disk: ${spaceText(storage)}`;
}
