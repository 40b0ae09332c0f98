import type { Bus, Outgoing, QueueName } from '../bus/bus.ts';
import {
  EDITED,
  EVERY_FOLLOWER,
  encodeLive,
  type LiveRecord,
  type MessageHeader,
  RETRACTED,
  ROW_BYTES,
  rowAuthor,
  rowPost,
  rowUser,
} from '../model/messages.ts';
import { type Traces, tracesAmong } from '../telemetry/tracing.ts';
import type { Presence } from './presence.ts';

const RECORDS_A_MESSAGE = 5_000;

export const liveQueue = (gatewayId: string): QueueName => `live.${gatewayId}`;

/**
 * Notifies gateways of posts for their online users. Nothing is published for offline users.
 * `traces`: by post.
 */
export interface Notifier {
  /** Publishes committed rows, in COPY format, to the gateways of their online users. */
  toRecipients(rows: readonly Buffer[], header: MessageHeader, traces?: Traces): Promise<void>;
  /** Publishes posts that one user gets by another way than fan-out. */
  toUser(
    userId: number,
    posts: readonly { postId: number; authorId: number }[],
    header: MessageHeader,
  ): Promise<void>;
  /** Publishes posts that are not fanned out, once to every gateway. */
  toFollowers(
    posts: readonly { postId: number; authorId: number }[],
    header: MessageHeader,
    traces?: Traces,
  ): Promise<void>;
  /** Publishes that posts have other texts, once to every gateway. */
  edited(posts: readonly { postId: number; authorId: number }[], header: MessageHeader): Promise<void>;
  /** Publishes the deletion of a post, once to every gateway. */
  retracted(post: { postId: number; authorId: number }, header: MessageHeader): Promise<void>;
}

/** Publishes nothing. */
export const silentNotifier: Notifier = {
  toRecipients: async () => {},
  toUser: async () => {},
  toFollowers: async () => {},
  edited: async () => {},
  retracted: async () => {},
};

function* postIds(records: readonly LiveRecord[]): Generator<number> {
  for (const { postId } of records) yield postId;
}

export const openNotifier = (bus: Bus, presence: Presence): Notifier => new BusNotifier(bus, presence);

class BusNotifier implements Notifier {
  readonly #bus: Bus;
  readonly #presence: Presence;

  constructor(bus: Bus, presence: Presence) {
    this.#bus = bus;
    this.#presence = presence;
  }

  toFollowers(
    posts: readonly { postId: number; authorId: number }[],
    header: MessageHeader,
    traces?: Traces,
  ): Promise<void> {
    const records = posts.map((post) => ({ userId: EVERY_FOLLOWER, ...post }));
    return this.#toEveryGateway(records, header, traces);
  }

  edited(posts: readonly { postId: number; authorId: number }[], header: MessageHeader): Promise<void> {
    const records = posts.map((post) => ({ userId: EDITED, ...post }));
    return this.#toEveryGateway(records, header);
  }

  retracted(post: { postId: number; authorId: number }, header: MessageHeader): Promise<void> {
    return this.#toEveryGateway([{ userId: RETRACTED, ...post }], header);
  }

  async toUser(
    userId: number,
    posts: readonly { postId: number; authorId: number }[],
    header: MessageHeader,
  ): Promise<void> {
    if (posts.length === 0) return;
    const presence = this.#presence;
    await presence.settle();
    const gateways = presence.known ? presence.gatewaysOf(userId) : presence.gateways();
    const records = posts.map((post) => ({ userId, ...post }));
    await this.#publish(new Map([...(gateways ?? [])].map((gateway) => [gateway, records])), header);
  }

  async toRecipients(rows: readonly Buffer[], header: MessageHeader, traces?: Traces): Promise<void> {
    const presence = this.#presence;
    await presence.settle();
    if (!presence.known) return this.toFollowers(distinctPosts(rows), header, traces);
    if (presence.count > 0) await this.#publish(this.#recordsByGateway(rows), header, traces);
  }

  #recordsByGateway(rows: readonly Buffer[]): Map<string, LiveRecord[]> {
    const byGateway = new Map<string, LiveRecord[]>();
    let last = 0;
    let gateways: Iterable<string> | undefined;
    for (const part of rows) {
      for (let at = 0; at < part.length; at += ROW_BYTES) {
        const userId = rowUser(part, at);
        // Rows of one user are adjacent.
        if (userId !== last) gateways = this.#presence.gatewaysOf(userId);
        last = userId;
        for (const gateway of gateways ?? []) {
          const records = byGateway.get(gateway) ?? [];
          records.push({ userId, authorId: rowAuthor(part, at), postId: rowPost(part, at) });
          byGateway.set(gateway, records);
        }
      }
    }
    return byGateway;
  }

  async #toEveryGateway(records: LiveRecord[], header: MessageHeader, traces?: Traces): Promise<void> {
    if (records.length === 0) return;
    const presence = this.#presence;
    await presence.settle();
    if (presence.known && presence.count === 0) return;
    await this.#publish(
      new Map([...presence.gateways()].map((gateway) => [gateway, records])),
      header,
      traces,
    );
  }

  async #publish(
    byGateway: Map<string, LiveRecord[]>,
    header: MessageHeader,
    traces?: Traces,
  ): Promise<void> {
    const messages: Outgoing[] = [];
    for (const [gateway, records] of byGateway) {
      for (let from = 0; from < records.length; from += RECORDS_A_MESSAGE) {
        const part = records.slice(from, from + RECORDS_A_MESSAGE);
        messages.push({
          queue: liveQueue(gateway),
          body: encodeLive(header, part),
          ...(traces && tracesAmong(traces, postIds(part))),
        });
      }
    }
    await this.#bus.publish(messages);
  }
}

function distinctPosts(rows: readonly Buffer[]): { postId: number; authorId: number }[] {
  const posts = new Map<number, { postId: number; authorId: number }>();
  for (const part of rows)
    for (let at = 0; at < part.length; at += ROW_BYTES)
      posts.set(rowPost(part, at), { postId: rowPost(part, at), authorId: rowAuthor(part, at) });
  return [...posts.values()];
}
