import type { ImportResult } from '../../engine/imports/posts.ts';
import type { ImportProgress } from '../../engine/imports/report.ts';
import { counted } from '../../engine/model/counted.ts';
import { formatCount, formatDuration } from '../terminal/format.ts';
import type { ProgressUpdate } from '../terminal/progress.ts';

/** Returns what the line of progress of an import shows: feed rows, once there are any. */
export function importProgress(progress: ImportProgress): ProgressUpdate {
  const { phase, posts, totalPosts, rows, owed, messages, mostMessages } = progress;
  switch (phase) {
    case 'checking':
      return { title: phase, done: posts, unit: 'lines' };
    case 'posting':
      return { title: phase, done: posts, total: totalPosts, unit: 'posts' };
    case 'delivering': {
      const note =
        posts < totalPosts ? `${formatCount(posts)} of ${formatCount(totalPosts)} posts` : undefined;
      return { title: phase, done: rows, total: owed, unit: 'rows', ...(note && { note }) };
    }
    case 'waiting':
      return {
        title: 'waiting for other work',
        done: mostMessages - messages,
        total: mostMessages,
        unit: 'messages',
      };
  }
}

/** What a replay did: a sentence, and the time that posts took. */
export function importedLines(result: ImportResult): string[] {
  const { rows, posts, deliveries, merged, seconds, deliveriesPerSecond, latencyMs } = result;
  if (rows === 0) return ['Nothing to do: the file has no rows.'];
  if (posts === 0) {
    const all = rows === 1 ? 'its one row was' : `all ${counted(rows, 'row')} were`;
    return [`Nothing to do: ${all} posted before.`];
  }
  const before = rows > posts ? ` ${counted(rows - posts, 'row was', 'rows were')} posted before.` : '';
  const mergedText = merged > 0 ? `; ${counted(merged, 'post is', 'posts are')} merged when read` : '';
  const became = `${counted(posts, 'post')} became ${counted(deliveries, 'delivery', 'deliveries')}`;
  const took = `in ${formatDuration(seconds)} (${formatCount(deliveriesPerSecond)}/s)`;
  const { p50, p95, p99 } = latencyMs;
  return [
    `${became} ${took}${mergedText}.${before}`,
    ...(deliveries > 0 ? [`From post to feed: p50 ${p50} ms, p95 ${p95} ms, p99 ${p99} ms.`] : []),
  ];
}
