import { decodeMessage } from './decodeMessage.ts';
import type { EventRef } from './event.ts';

/** Maximum ids in a log line: a message may hold thousands. */
const MAX_IDS = 20;

/** Ids that a log line names. */
export interface NamedIds {
  readonly eventIds?: readonly number[];
  readonly postIds?: readonly number[];
}

/** Returns the first different ids. */
const first = (ids: Iterable<number>): number[] => {
  const named = new Set<number>();
  for (const id of ids) {
    if (named.size === MAX_IDS) break;
    named.add(id);
  }
  return [...named];
};

const posts = (ids: Iterable<number>): NamedIds => ({ postIds: first(ids) });

export function idsOfEvents(events: readonly EventRef[]): NamedIds {
  const ofPosts = events.filter(({ type }) => type.startsWith('post.'));
  return {
    eventIds: first(events.map(({ id }) => id)),
    ...(ofPosts.length > 0 && posts(ofPosts.map(({ subjectId }) => subjectId))),
  };
}

export const idsOfPosts = (all: readonly { readonly postId: number }[]): NamedIds =>
  posts(all.map(({ postId }) => postId));

/** Returns the ids in a message. A message that cannot be read has none. */
export function idsOfMessage(body: Buffer): NamedIds {
  try {
    const message = decodeMessage(body);
    switch (message.kind) {
      case 'events':
        return idsOfEvents(message.events);
      case 'rows':
        return posts(message.rows.flatMap(({ postIds }) => postIds));
      case 'live':
        return idsOfPosts(message.posts);
      case 'cleanup':
        return {};
    }
  } catch {
    return {};
  }
}
