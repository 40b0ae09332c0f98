import { setTimeout as sleep } from 'node:timers/promises';
import type { Database, Session } from '../../database/database.ts';
import { FeedctlError } from '../../model/errors.ts';
import { DURABLE_QUEUES } from '../bus.ts';
import type { AdminChannel } from './adminChannel.ts';
import type { ConsumerGroup, Topology } from './membership.ts';
import { declareTopology, partitionsOf, type QueueLimits, unbindPartitions } from './queueNames.ts';
import {
  CHANGE_PARTITIONS,
  END_DRAINED,
  FIRST_TOPOLOGY,
  LOCK_TOPOLOGY,
  LOCK_TOPOLOGY_SHARED,
  READ_TOPOLOGY,
  UNLOCK_TOPOLOGY,
} from './sql.ts';

/** Maximum partitions. A power of two divides the shards of a table, so that a partition has whole shards. */
export const MAX_PARTITIONS = 32;
/** Longer than the heartbeat in which members report their messages and learn of a change. */
const MEMBERS_KNOWN_MS = 2_500;

export interface PartitionsContext {
  readonly db: Database;
  readonly adminChannel: AdminChannel;
  readonly group: ConsumerGroup;
  readonly limits: QueueLimits;
}

/**
 * Declares what is missing at the broker. A new cluster gets `firstPartitions`. The lock prevents
 * binding a queue again that a change of partitions has just unbound.
 */
export async function declare(context: PartitionsContext, firstPartitions: number): Promise<Topology> {
  return locked(context.db, LOCK_TOPOLOGY_SHARED, async (session) => {
    const { rows } = await session.query<{ value: Topology }>(FIRST_TOPOLOGY, [firstPartitions]);
    const topology = rows[0]!.value;
    await declareTopology((work) => context.adminChannel.run(work), topology.partitions, context.limits);
    return topology;
  });
}

/**
 * Changes the number of partitions while the cluster runs. New ones are declared before messages are
 * published to them. Surplus ones get no more messages, are consumed until they are empty, then
 * deleted by `endDrained`. Throws CONFIG_INVALID.
 */
export async function changePartitions(context: PartitionsContext, partitions: number): Promise<void> {
  if (!Number.isInteger(Math.log2(partitions)) || partitions > MAX_PARTITIONS) {
    throw new FeedctlError(
      'CONFIG_INVALID',
      `${partitions} is no number of partitions: a power of two up to ${MAX_PARTITIONS} is needed`,
    );
  }
  await locked(context.db, LOCK_TOPOLOGY, async (session) => {
    await session.query(FIRST_TOPOLOGY, [partitions]);
    await declareTopology((work) => context.adminChannel.run(work), partitions, context.limits);
    await session.query(CHANGE_PARTITIONS, [partitions]);
    const { declared } = (await readTopology(session))!;
    await context.adminChannel.run((channel) => unbindPartitions(channel, partitions, declared));
  });
}

/**
 * Deletes surplus partitions once they are empty, no message of them is in flight, and no barrier waits
 * for them. Returns whether they are deleted. Members report messages in flight a second late, so it
 * asks them after it has seen the queues empty. A second consumer of a queue is a dead one that the
 * broker has not noticed: its messages would return.
 */
export async function endDrained(context: PartitionsContext): Promise<boolean> {
  return locked(context.db, LOCK_TOPOLOGY, async (session) => {
    const { partitions, declared } = (await readTopology(session))!;
    const names = DURABLE_QUEUES.flatMap((queue) => partitionsOf(queue, declared, partitions));
    if (names.length === 0) return true;
    await context.adminChannel.run((channel) => unbindPartitions(channel, partitions, declared));
    const isEmpty = async () => {
      const states = await context.adminChannel.states(names);
      return [...states.values()].every((state) => state.ready === 0 && state.consumers <= 1);
    };
    if (!(await isEmpty())) return false;
    await sleep(MEMBERS_KNOWN_MS);
    const members = await context.group.counts();
    if (members.some((counts) => names.some((name) => name in counts)) || !(await isEmpty())) return false;
    const { rowCount } = await session.query(END_DRAINED, [partitions, names]);
    if (rowCount === 0) return false;
    // Waits until the consumers have closed the queues.
    await sleep(MEMBERS_KNOWN_MS);
    for (const name of names) await context.adminChannel.run((channel) => channel.deleteQueue(name));
    return true;
  });
}

export async function readTopology(db: Pick<Session, 'query'> | Database): Promise<Topology | undefined> {
  const { rows } = await (db as Session).query<{ value: Topology }>(READ_TOPOLOGY);
  return rows[0]?.value;
}

function locked<T>(db: Database, lock: string, work: (session: Session) => Promise<T>): Promise<T> {
  return db.withSession(async (session) => {
    await session.query(lock);
    try {
      return await work(session);
    } finally {
      await session.query(UNLOCK_TOPOLOGY);
    }
  });
}
