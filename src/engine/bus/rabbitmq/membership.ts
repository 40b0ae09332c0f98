import type { Database } from '../../database/database.ts';
import { type ErrorCode, messageOf } from '../../model/errors.ts';
import type { Log } from '../../telemetry/log.ts';
import { everyTick } from '../../util/ticks.ts';
import { DURABLE_QUEUES } from '../bus.ts';
import { type DurableQueue, partitionsOf } from './queueNames.ts';
import { CONSUMED, HEARTBEAT, IN_FLIGHT, LEAVE } from './sql.ts';

const HEARTBEAT_INTERVAL_MS = 1_000;

/** Messages of one queue in a member's process, as `bus.members` stores them. */
export interface MessageCounts {
  /** Delivered and not settled. */
  readonly out: number;
  /** Not delivered yet. */
  readonly waiting: number;
  /** Publication of the oldest, in unix milliseconds. */
  readonly oldestMs: number | undefined;
  /** Why the member does not consume the queue. */
  readonly refused?: { readonly code: ErrorCode; readonly message: string };
}

/** A consumer of any process. */
export interface Member {
  readonly id: string;
  readonly queues: readonly string[];
}

interface OwnMember extends Member {
  readonly settled: Readonly<Record<string, number>>;
  counts(): Record<string, MessageCounts>;
  /** Called when the members of all processes, or the topology, may have changed. */
  reconcile(members: readonly Member[]): void;
}

export interface Topology {
  /** Partitions that messages are published to. */
  readonly partitions: number;
  /** Partitions that exist. More than `partitions` while the surplus drains. */
  readonly declared: number;
}

/**
 * Consumers of all processes, agreed on through the database. Every process writes a heartbeat once a
 * second; a member without one for 3.5 s is dead. If two members disagree for a moment, both consume a
 * partition, and the broker delivers to one of them.
 */
export class ConsumerGroup {
  readonly #db: Database;
  readonly #log: Log;
  readonly #onTopology: (topology: Topology) => void;
  readonly #own = new Map<string, OwnMember>();
  #others: readonly Member[] = [];
  #end: (() => void) | undefined;
  #heartbeating: Promise<void> = Promise.resolve();

  constructor(db: Database, log: Log, onTopology: (topology: Topology) => void) {
    this.#db = db;
    this.#log = log;
    this.#onTopology = onTopology;
  }

  /** Resolves when other processes can see the member. */
  async join(member: OwnMember): Promise<void> {
    this.#own.set(member.id, member);
    await this.#heartbeatNow();
    this.#end ??= everyTick(HEARTBEAT_INTERVAL_MS, () => {
      this.#heartbeatNow().catch((error) =>
        // The last known members stay valid.
        this.#log.warn({ reason: messageOf(error) }, 'members not read'),
      );
    });
  }

  async leave(id: string): Promise<void> {
    this.#own.delete(id);
    if (this.#own.size === 0) {
      this.#end?.();
      this.#end = undefined;
    }
    await this.#heartbeating.catch(() => {});
    await this.#db.query(LEAVE, [id]).catch(() => {});
    this.#reconcile();
  }

  /** Returns the messages in all members' processes: this one's now, others' as of a second ago. */
  async counts(): Promise<Record<string, MessageCounts>[]> {
    const { rows } = await this.#db.query<{ hands: Record<string, MessageCounts> }>(IN_FLIGHT, [
      [...this.#own.keys()],
    ]);
    return [...rows.map((row) => row.hands), ...[...this.#own.values()].map((member) => member.counts())];
  }

  /** Returns the queues that have consumers. */
  async queues(): Promise<Set<string>> {
    const { rows } = await this.#db.query<{ queue: string }>(CONSUMED);
    return new Set([
      ...rows.map((row) => row.queue),
      ...[...this.#own.values()].flatMap((one) => one.queues),
    ]);
  }

  #heartbeatNow(): Promise<void> {
    this.#heartbeating = this.#heartbeating.catch(() => {}).then(() => this.#heartbeat());
    return this.#heartbeating;
  }

  async #heartbeat(): Promise<void> {
    const own = [...this.#own.values()];
    if (own.length === 0) return;
    const members = own.map((member) => ({
      id: member.id,
      queues: member.queues,
      hands: member.counts(),
      settled: member.settled,
    }));
    const { rows } = await this.#db.query<{ topology: Topology | null; others: Member[] }>(HEARTBEAT, [
      JSON.stringify(members),
      own.map((member) => member.id),
    ]);
    const { topology, others } = rows[0]!;
    this.#others = others;
    if (topology) this.#onTopology(topology);
    this.#reconcile();
  }

  #reconcile(): void {
    const all = [...this.#own.values(), ...this.#others];
    for (const member of this.#own.values()) member.reconcile(all);
  }
}

/**
 * Returns the partitions of a queue that are assigned to a member. Partitions are assigned in turn to
 * the members that consume the queue. Each queue begins where the previous one has ended.
 */
export function assignedPartitions(
  id: string,
  queue: DurableQueue,
  members: readonly Member[],
  declared: number,
): string[] {
  const ids = members.filter((member) => member.queues.includes(queue)).map((member) => member.id);
  const place = ids.sort().indexOf(id);
  const offset = DURABLE_QUEUES.indexOf(queue) * declared;
  return partitionsOf(queue, declared).filter((_, i) => (offset + i) % ids.length === place);
}
