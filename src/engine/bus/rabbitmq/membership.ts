import type { Database } from '../../database/database.ts';
import { messageOf } from '../../model/errors.ts';
import type { Log } from '../../telemetry/log.ts';
import { DURABLE_QUEUES } from '../bus.ts';
import { type DurableQueue, partitionsOf } from './queueNames.ts';
import { CONSUMED, HEARTBEAT, IN_FLIGHT, LEAVE } from './sql.ts';

const HEARTBEAT_INTERVAL_MS = 1_000;

/** How many messages of one queue a member holds. */
export interface HeldCounts {
  readonly out: number;
  readonly waiting: number;
  readonly oldestMs: number | undefined;
}

/** A consumer, as the others know it. */
export interface Member {
  readonly id: string;
  readonly queues: readonly string[];
}

interface OwnMember extends Member {
  readonly settled: Readonly<Record<string, number>>;
  held(): Record<string, HeldCounts>;
  /** The members of all processes, or the topology, may have changed. */
  reconcile(members: readonly Member[]): void;
}

export interface Topology {
  /** Published to. */
  readonly partitions: number;
  /** Existing: more than are published to while the rest is being drained. */
  readonly declared: number;
}

/**
 * Who consumes, agreed on through the database: every process says once a second that it is there, and who has been
 * silent for 3.5 s is not. Where two disagree for a moment both want a queue, and the broker gives it to one.
 */
export class ConsumerGroup {
  readonly #db: Database;
  readonly #log: Log;
  readonly #onTopology: (topology: Topology) => void;
  readonly #own = new Map<string, OwnMember>();
  #others: readonly Member[] = [];
  #timer: NodeJS.Timeout | undefined;
  #heartbeating: Promise<void> = Promise.resolve();

  constructor(db: Database, log: Log, onTopology: (topology: Topology) => void) {
    this.#db = db;
    this.#log = log;
    this.#onTopology = onTopology;
  }

  /** Returns when the others can know of it. */
  async join(member: OwnMember): Promise<void> {
    this.#own.set(member.id, member);
    await this.#heartbeatNow();
    this.#timer ??= setInterval(() => {
      this.#heartbeatNow().catch((error) =>
        // The last that is known holds on.
        this.#log.warn({ reason: messageOf(error) }, 'members not read'),
      );
    }, HEARTBEAT_INTERVAL_MS);
  }

  async leave(id: string): Promise<void> {
    this.#own.delete(id);
    if (this.#own.size === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
    }
    await this.#heartbeating.catch(() => {});
    await this.#db.query(LEAVE, [id]).catch(() => {});
    this.#reconcile();
  }

  /** What all members hold, this process's as it is now, others' as it was a second ago. */
  async held(): Promise<Record<string, HeldCounts>[]> {
    const { rows } = await this.#db.query<{ hands: Record<string, HeldCounts> }>(IN_FLIGHT, [
      [...this.#own.keys()],
    ]);
    return [...rows.map((row) => row.hands), ...[...this.#own.values()].map((member) => member.held())];
  }

  /** What is consumed by anybody. */
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
      hands: member.held(),
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
 * The partitions of a queue that are one member's: all are dealt out in turn to those who consume the queue, each
 * queue beginning where the one before has ended.
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
