/**
 * The order is part of the bus format: new types come last.
 *
 * What happened, as the outbox keeps it: immutable and self-contained. `aggregateId` is whose rows changed
 * (the author of a post, the follower of a follow) and decides the shard; `subjectId` is the post or the followee.
 */
export const EVENT_TYPES = [
  'post.created',
  'post.deleted',
  'follow.created',
  'follow.deleted',
  'post.updated',
] as const;

export type EventType = (typeof EVENT_TYPES)[number];

export interface FeedEvent {
  readonly id: number;
  readonly type: EventType;
  readonly aggregateId: number;
  readonly subjectId: number;
  readonly occurredAt: Date;
  readonly data: { readonly [name: string]: unknown };
}

/** The part of an event that fan-out needs, and all that travels on the bus. */
export type EventRef = Pick<FeedEvent, 'id' | 'type' | 'aggregateId' | 'subjectId'>;
