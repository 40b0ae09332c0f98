import type { EventRef } from './event.ts';
import { decodeEvents, decodeLive, KIND } from './messages.ts';
import { postsOfRows } from './rowsMessage.ts';

/** Ids that a line of a log names: the first of them, as a message may hold thousands. */
const MAX_IDS = 20;

/** What a line of a log says that a message or a step is about. */
export interface NamedIds {
  readonly eventIds?: readonly number[];
  readonly postIds?: readonly number[];
}

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

/** What a message is about; nothing of one that cannot be read, which is why it failed. */
export function idsOfMessage(body: Buffer): NamedIds {
  try {
    if (body[0] === KIND.EVENTS) return idsOfEvents(decodeEvents(body).events);
    if (body[0] === KIND.ROWS) return posts(postsOfRows(body).flatMap(({ postIds }) => postIds));
    if (body[0] === KIND.LIVE) return idsOfPosts(decodeLive(body).live);
  } catch {
    // As it says above.
  }
  return {};
}
