import type { ImportProgress } from '../../engine/imports/report.ts';
import { formatCount } from '../terminal/format.ts';
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
