import type { Bus, Consumer, Delivery } from '../bus/bus.ts';
import { giveBack } from '../bus/giveBack.ts';
import { decodeLive, type LiveRecord } from '../model/messages.ts';
import type { Post } from '../model/post.ts';
import type { Database } from '../store/database.ts';
import { type AddressedPost, postsForFollowers, postsForUsers } from '../store/live.ts';
import type { Log } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { liveQueue } from './notifier.ts';
import { announce } from './presence.ts';

/** Posts a session remembers having sent: a redelivery comes within seconds, not thousands of posts later. */
const REMEMBERED = 10_000;
const PREFETCH = 50;

/** One open socket of one user. */
export interface LiveSocket {
  readonly userId: number;
  send(post: Post): void;
}

/** The sockets of one gateway, and the posts that come for them. */
export interface Hub {
  /** Resolves when every post committed from now on will reach this socket. Returns how to take it out again. */
  connect(socket: LiveSocket): Promise<() => void>;
  readonly sockets: number;
  /** Frames sent since the start. */
  readonly pushed: number;
  stop(deadlineMs: number): Promise<void>;
}

interface Online {
  readonly sockets: Map<LiveSocket, Set<number>>;
  /** Changes of presence, one after the other. */
  changes: Promise<void>;
  announced: boolean;
}

export async function openHub(context: {
  db: Database;
  bus: Bus;
  log: Log;
  metrics?: Metrics | undefined;
  gatewayId: string;
}): Promise<Hub> {
  const { db, bus, log, metrics, gatewayId } = context;
  const online = new Map<number, Online>();
  let pushed = 0;
  let sockets = 0;

  const sync = (userId: number, user: Online): Promise<void> => {
    user.changes = user.changes
      .catch(() => {})
      .then(async () => {
        const wanted = user.sockets.size > 0;
        if (wanted !== user.announced) await announce(db, gatewayId, userId, wanted);
        user.announced = wanted;
        if (user.sockets.size === 0 && online.get(userId) === user) online.delete(userId);
      });
    return user.changes;
  };

  /** What every socket may see is decided here and now: follows and deletions as they are, not as they were. */
  const push = async (records: readonly LiveRecord[]) => {
    const single = records.filter((record) => record.userId !== 0 && online.has(record.userId));
    const broadcast = records.filter((record) => record.userId === 0);
    const posts: AddressedPost[] = [
      ...(single.length > 0 ? await postsForUsers(db, single) : []),
      ...(broadcast.length > 0 && online.size > 0
        ? await postsForFollowers(db, broadcast, [...online.keys()])
        : []),
    ];
    for (const { userId, ...post } of posts.sort((a, b) => a.id - b.id)) {
      for (const [socket, sent] of online.get(userId)?.sockets ?? []) {
        if (sent.has(post.id)) continue;
        sent.add(post.id);
        if (sent.size > REMEMBERED) sent.delete(sent.values().next().value!);
        socket.send(post);
        pushed += 1;
        metrics?.count('feedctl_gateway_pushed_total', 1);
      }
    }
  };

  const handle = async (deliveries: Delivery[]) => {
    const records: LiveRecord[] = [];
    const good: Delivery[] = [];
    for (const delivery of deliveries) {
      try {
        records.push(...decodeLive(delivery.body).live);
        good.push(delivery);
      } catch (error) {
        giveBack(delivery, error, context);
      }
    }
    try {
      await push(records);
      for (const delivery of good) delivery.ack();
    } catch (error) {
      for (const delivery of good) giveBack(delivery, error, context);
    }
  };
  let work = Promise.resolve();
  const consumer: Consumer = await bus.consume(
    { queues: [liveQueue(gatewayId)], prefetch: PREFETCH },
    (deliveries) => {
      work = work.then(() => handle(deliveries));
    },
  );

  return {
    get sockets() {
      return sockets;
    },
    get pushed() {
      return pushed;
    },
    async connect(socket) {
      const user: Online = online.get(socket.userId) ?? {
        sockets: new Map(),
        changes: Promise.resolve(),
        announced: false,
      };
      online.set(socket.userId, user);
      user.sockets.set(socket, new Set());
      sockets += 1;
      const disconnect = () => {
        if (!user.sockets.delete(socket)) return;
        sockets -= 1;
        sync(socket.userId, user).catch((error) =>
          log.warn({ userId: socket.userId, reason: String(error) }, 'still announced'),
        );
      };
      try {
        await sync(socket.userId, user);
      } catch (error) {
        disconnect();
        throw error;
      }
      return disconnect;
    },
    async stop(deadlineMs) {
      await consumer.stop(deadlineMs);
      await bus.dropQueue(liveQueue(gatewayId));
    },
  };
}
