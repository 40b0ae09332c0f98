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
          `author ${authorId}: post(s) ${listed(postIds)} for ${users} user(s)`,
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
    ...(made.rows > 0 ? [`${formatCount(made.rows)} feed rows of ${formatCount(made.posts)} post(s)`] : []),
    ...(made.cleanups > 0 ? [`${formatCount(made.cleanups)} cleanup(s)`] : []),
    ...(made.unreadable > 0 ? [`${formatCount(made.unreadable)} unreadable`] : []),
  ];
  const lines = [
    `${formatCount(made.messages)} message(s), ${formatBytes(made.bytes)}: ` +
      (parts.join(', ') || 'nothing to count'),
  ];
  for (const { authorId, posts, rows, events } of made.authors) {
    const of = rows > 0 ? `${formatCount(rows)} rows` : `${formatCount(events)} event(s)`;
    lines.push(`  author ${authorId}: ${formatCount(posts)} post(s), ${of}`);
  }
  if (made.authorCount > made.authors.length)
    lines.push(`  and ${formatCount(made.authorCount - made.authors.length)} more author(s)`);
  return lines;
}
