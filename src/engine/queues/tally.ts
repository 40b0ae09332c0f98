import { DURABLE_QUEUES, type QueueName } from '../bus/bus.ts';
import type { EventType } from '../model/event.ts';
import type { LaneName } from '../model/lanes.ts';
import { type MessageContent, messageContent } from '../model/messageContent.ts';
import type { EventAbout } from '../store/events.ts';

const MAX_AUTHORS = 10;

/** Contents of some messages. */
export interface Composition {
  readonly messages: number;
  readonly bytes: number;
  /** Messages that cannot be decoded. */
  readonly unreadable: number;
  readonly events: Partial<Record<EventType, number>>;
  /** Different posts. */
  readonly posts: number;
  /** Feed rows. */
  readonly rows: number;
  /** Pairs and posts to clean up. */
  readonly cleanups: number;
  /** Number of authors (for follow events: followers), and those with most rows, then events. */
  readonly authorCount: number;
  readonly authors: readonly { authorId: number; posts: number; rows: number; events: number }[];
}

interface Author {
  readonly posts: Set<number>;
  rows: number;
  events: number;
}

/** Counts the contents of messages of any kind. */
export class MessageTally {
  #messages = 0;
  #bytes = 0;
  #unreadable = 0;
  #rows = 0;
  #cleanups = 0;
  readonly #events: Partial<Record<EventType, number>> = {};
  readonly #authors = new Map<number, Author>();

  get messages(): number {
    return this.#messages;
  }

  add(body: Buffer): MessageContent {
    const content = messageContent(body);
    this.#messages += 1;
    this.#bytes += body.length;
    switch (content.kind) {
      case 'events':
        for (const { type, aggregateId, subjectId } of content.events) {
          this.#events[type] = (this.#events[type] ?? 0) + 1;
          const author = this.#author(aggregateId);
          author.events += 1;
          if (type.startsWith('post.')) author.posts.add(subjectId);
        }
        break;
      case 'rows':
        for (const { authorId, postIds, users } of content.rows) {
          const author = this.#author(authorId);
          for (const postId of postIds) author.posts.add(postId);
          author.rows += postIds.length * users;
          this.#rows += postIds.length * users;
        }
        break;
      case 'live':
        for (const { authorId, postId } of content.posts) this.#author(authorId).posts.add(postId);
        break;
      case 'cleanup':
        this.#cleanups += content.cleanup.what.length;
        break;
      case 'unreadable':
        this.#unreadable += 1;
    }
    return content;
  }

  result(): Composition {
    const authors = [...this.#authors].map(([authorId, { posts, rows, events }]) => ({
      authorId,
      posts: posts.size,
      rows,
      events,
    }));
    authors.sort((a, b) => b.rows - a.rows || b.events - a.events || b.posts - a.posts);
    return {
      messages: this.#messages,
      bytes: this.#bytes,
      unreadable: this.#unreadable,
      events: this.#events,
      posts: authors.reduce((sum, author) => sum + author.posts, 0),
      rows: this.#rows,
      cleanups: this.#cleanups,
      authorCount: authors.length,
      authors: authors.slice(0, MAX_AUTHORS),
    };
  }

  #author(id: number): Author {
    const author = this.#authors.get(id) ?? { posts: new Set<number>(), rows: 0, events: 0 };
    this.#authors.set(id, author);
    return author;
  }
}

/** Returns the events that do the work of a message if they are dispatched again. */
export function eventsBehind(content: MessageContent): readonly EventAbout[] {
  switch (content.kind) {
    case 'rows':
      return content.rows.flatMap(({ authorId, postIds }) =>
        postIds.map((postId) => ({
          type: 'post.created' as const,
          aggregateId: authorId,
          subjectId: postId,
        })),
      );
    case 'cleanup':
      return content.cleanup.what.map((rows) =>
        'pair' in rows
          ? {
              type: 'follow.deleted' as const,
              aggregateId: rows.pair.followerId,
              subjectId: rows.pair.followeeId,
            }
          : {
              type: 'post.deleted' as const,
              aggregateId: rows.post.authorId,
              subjectId: rows.post.postId,
            },
      );
    default:
      return [];
  }
}

/** Returns the lanes that have to be paused to stop the consumers of a queue. */
export const lanesOfQueue = (queue: string): LaneName[] => {
  if (queue === 'cleanup') return ['live', 'bulk'];
  if (queue === 'events' || queue === 'rows.live') return ['live'];
  return queue === 'events.bulk' || queue === 'rows.bulk' ? ['bulk'] : [];
};

export const isDurable = (queue: string): queue is QueueName & (typeof DURABLE_QUEUES)[number] =>
  (DURABLE_QUEUES as readonly string[]).includes(queue);
