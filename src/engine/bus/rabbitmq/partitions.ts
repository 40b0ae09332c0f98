import { setTimeout as sleep } from 'node:timers/promises';
import type { Database, Session } from '../../database/database.ts';
import { FeedctlError } from '../../model/errors.ts';
import { DURABLE_QUEUES } from '../bus.ts';
import type { AdminChannel } from './adminChannel.ts';
import type { ConsumerGroup, Topology } from './membership.ts';
import { type Bounds, declareTopology, partitionsOf, unbindPartitions } from './queueNames.ts';
import {
  CHANGE_PARTITIONS,
  END_DRAINED,
  FIRST_TOPOLOGY,
  LOCK_TOPOLOGY,
  LOCK_TOPOLOGY_SHARED,
  READ_TOPOLOGY,
  UNLOCK_TOPOLOGY,
} from './sql.ts';

/** A power of two divides the shards of a table, so that a partition lines up with whole ones. */
const MAX_PARTITIONS = 32;
/** Longer than members take to tell what they hold, and to hear of a change. */
const TOLD_MS = 2_500;

export interface PartitionsContext {
  readonly db: Database;
  readonly adminChannel: AdminChannel;
  readonly group: ConsumerGroup;
  readonly bounds: Bounds;
}

/**
 * Makes what is missing at the broker, for as many partitions as the cluster has, or for that many where it is new.
 * The lock: nobody binds again what a change has just unbound.
 */
export async function declare(context: PartitionsContext, firstPartitions: number): Promise<Topology> {
  return locked(context.db, LOCK_TOPOLOGY_SHARED, async (session) => {
    const { rows } = await session.query<{ value: Topology }>(FIRST_TOPOLOGY, [firstPartitions]);
    const topology = rows[0]!.value;
    await context.adminChannel.run((channel) =>
      declareTopology(channel, topology.partitions, context.bounds),
    );
    return topology;
  });
}

/**
 * Another number of partitions, while everything runs. New ones are there before anybody publishes to them; those
 * that are too many get nothing more, are consumed until they are empty, and then deleted by `endDrained`. Throws
 * CONFIG_INVALID.
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
    await context.adminChannel.run((channel) => declareTopology(channel, partitions, context.bounds));
    await session.query(CHANGE_PARTITIONS, [partitions]);
    const { declared } = (await readTopology(session))!;
    await context.adminChannel.run((channel) => unbindPartitions(channel, partitions, declared));
  });
}

/**
 * Deletes the partitions that are too many when nothing is in them, in no hands, and no mark waits for them. True
 * when it is done. What could still be in somebody's hands: each is asked after the queues were seen empty, and a
 * second consumer of a queue would be one whose death the broker has not noticed yet.
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
    await sleep(TOLD_MS);
    const held = await context.group.held();
    if (held.some((hands) => names.some((name) => name in hands)) || !(await isEmpty())) return false;
    const { rowCount } = await session.query(END_DRAINED, [partitions, names]);
    if (rowCount === 0) return false;
    // By now their consumers have let them go.
    await sleep(TOLD_MS);
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
