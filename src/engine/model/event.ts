/** Types of events. Their order is part of the message format: new types are appended. */
export const EVENT_TYPES = [
  'post.created',
  'post.deleted',
  'follow.created',
  'follow.deleted',
  'post.updated',
] as const;

export type EventType = (typeof EVENT_TYPES)[number];

/** An event of the outbox. It never changes. */
export interface FeedEvent {
  readonly id: number;
  readonly type: EventType;
  /** User whose rows changed: the author of a post, the follower of a follow. Decides the shard. */
  readonly aggregateId: number;
  /** Post, or followee of a follow. */
  readonly subjectId: number;
  readonly occurredAt: Date;
  readonly data: { readonly [name: string]: unknown };
}

/** The part of an event that fan-out needs: messages carry no more. */
export type EventRef = Pick<FeedEvent, 'id' | 'type' | 'aggregateId' | 'subjectId'>;
