import { counted } from '../../engine/model/counted.ts';
import type { MessageContent } from '../../engine/model/messageContent.ts';
import type { Composition } from '../../engine/queues/tally.ts';
import { formatBytes, formatCount, oneLine } from '../terminal/format.ts';

const MAX_POSTS = 20;

const listed = (ids: readonly number[]): string =>
  ids.length > MAX_POSTS
    ? `${ids.slice(0, MAX_POSTS).join(', ')} and ${formatCount(ids.length - MAX_POSTS)} more`
    : ids.join(', ');

/** The content of a message of the bus, in lines. */
export function describeContent(content: MessageContent): string[] {
  switch (content.kind) {
    case 'events':
      return content.events.map(
        (event) => `${event.id}  ${event.type}  ${event.aggregateId} -> ${event.subjectId}`,
      );
    case 'rows':
      return content.rows.map(
        ({ authorId, postIds, users }) =>
          `author ${authorId}: posts ${listed(postIds)} for ${counted(users, 'user')}`,
      );
    case 'live':
      return content.posts.map(
        ({ userId, authorId, postId }) => `post ${postId} of ${authorId} for user ${userId}`,
      );
    case 'cleanup':
      return [JSON.stringify(content.cleanup)];
    case 'unreadable':
      return [`The message cannot be read: ${oneLine(content.reason, 200)}`, content.hex];
  }
}

/** The content of several messages by event, row and author, in lines. */
export function describeComposition(made: Composition): string[] {
  const parts = [
    ...Object.entries(made.events).map(([type, count]) => `${formatCount(count)} ${type}`),
    ...(made.rows > 0 ? [`${counted(made.rows, 'feed row')} of ${counted(made.posts, 'post')}`] : []),
    ...(made.cleanups > 0 ? [counted(made.cleanups, 'cleanup')] : []),
    ...(made.unreadable > 0 ? [`${formatCount(made.unreadable)} unreadable`] : []),
  ];
  const lines = [
    `${counted(made.messages, 'message')}, ${formatBytes(made.bytes)}: ` +
      (parts.join(', ') || 'nothing to count'),
  ];
  for (const { authorId, posts, rows, events } of made.authors) {
    const of = rows > 0 ? counted(rows, 'row') : counted(events, 'event');
    lines.push(`  author ${authorId}: ${counted(posts, 'post')}, ${of}`);
  }
  if (made.authorCount > made.authors.length)
    lines.push(`  and ${counted(made.authorCount - made.authors.length, 'more author')}`);
  return lines;
}
