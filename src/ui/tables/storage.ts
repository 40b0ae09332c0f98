import { type FeedStorage, oldestSeconds, spaceText } from '../../engine/model/feedStorage.ts';
import { formatBytes, formatCount, formatDuration } from '../terminal/format.ts';

/** Lines about feed rows and the disks that hold them. */
export function storageLines(storage: FeedStorage | null): string {
  if (!storage) return 'feed rows: not measured yet';
  const { rows, bytes, partitions, walBytesPerRow, measuredAt } = storage;
  const oldest = oldestSeconds(storage, measuredAt);
  const counts = [
    `about ${formatCount(rows)}, ${formatBytes(bytes)} in ${formatCount(partitions)} partitions`,
    ...(oldest === null ? [] : [`the oldest began ${formatDuration(oldest)} before`]),
    ...(walBytesPerRow === null ? [] : [`${formatBytes(walBytesPerRow)} of WAL a row`]),
  ];
  return `feed rows: ${counts.join(', ')}; measured ${measuredAt}\ndatabase disk: ${spaceText(storage)}`;
}
