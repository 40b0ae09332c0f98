import type { Bus, Outgoing, QueueName } from '../bus/bus.ts';
import {
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

/** Tells gateways of posts that their users should see now. Nothing is sent for who is offline. `traces`: by post. */
export interface Notifier {
  /** Rows that have just been committed, in COPY format: to those of their users who are online. */
  toRecipients(rows: readonly Buffer[], header: MessageHeader, traces?: Traces): Promise<void>;
  /** Posts that one user gets in another way than by fan-out. */
  toUser(
    userId: number,
    posts: readonly { postId: number; authorId: number }[],
    header: MessageHeader,
  ): Promise<void>;
  /** Posts that are not fanned out: once to every gateway. */
  toFollowers(
    posts: readonly { postId: number; authorId: number }[],
    header: MessageHeader,
    traces?: Traces,
  ): Promise<void>;
  /** A post that is there no more: once to every gateway. */
  withdrawn(post: { postId: number; authorId: number }, header: MessageHeader): Promise<void>;
}

/** Tells nobody. */
export const silentNotifier: Notifier = {
  toRecipients: async () => {},
  toUser: async () => {},
  toFollowers: async () => {},
  withdrawn: async () => {},
};

function* postIds(records: readonly LiveRecord[]): Generator<number> {
  for (const { postId } of records) yield postId;
}

export function openNotifier(bus: Bus, presence: Presence): Notifier {
  const publish = async (byGateway: Map<string, LiveRecord[]>, header: MessageHeader, traces?: Traces) => {
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
    await bus.publish(messages);
  };
  const toAll = async (records: LiveRecord[], header: MessageHeader, traces?: Traces) => {
    if (records.length === 0) return;
    await presence.settle();
    if (presence.known && presence.count === 0) return;
    await publish(new Map([...presence.gateways()].map((gateway) => [gateway, records])), header, traces);
  };
  const toFollowers: Notifier['toFollowers'] = (posts, header, traces) =>
    toAll(
      posts.map((post) => ({ userId: EVERY_FOLLOWER, ...post })),
      header,
      traces,
    );
  return {
    toFollowers,
    withdrawn: (post, header) => toAll([{ userId: RETRACTED, ...post }], header),
    async toUser(userId, posts, header) {
      if (posts.length === 0) return;
      await presence.settle();
      const gateways = presence.known ? presence.gatewaysOf(userId) : presence.gateways();
      const records = posts.map((post) => ({ userId, ...post }));
      await publish(new Map([...(gateways ?? [])].map((gateway) => [gateway, records])), header);
    },
    async toRecipients(rows, header, traces) {
      await presence.settle();
      if (presence.known && presence.count === 0) return;
      if (!presence.known) {
        const posts = new Map<number, { postId: number; authorId: number }>();
        for (const part of rows) {
          for (let at = 0; at < part.length; at += ROW_BYTES) {
            posts.set(rowPost(part, at), { postId: rowPost(part, at), authorId: rowAuthor(part, at) });
          }
        }
        await toFollowers([...posts.values()], header, traces);
        return;
      }
      const byGateway = new Map<string, LiveRecord[]>();
      let last = 0;
      let gateways: Iterable<string> | undefined;
      for (const part of rows) {
        for (let at = 0; at < part.length; at += ROW_BYTES) {
          const userId = rowUser(part, at);
          // A user's rows come side by side.
          if (userId !== last) gateways = presence.gatewaysOf(userId);
          last = userId;
          for (const gateway of gateways ?? []) {
            const records = byGateway.get(gateway) ?? [];
            records.push({ userId, authorId: rowAuthor(part, at), postId: rowPost(part, at) });
            byGateway.set(gateway, records);
          }
        }
      }
      await publish(byGateway, header, traces);
    },
  };
}
