import type { Database } from '../../database/database.ts';
import { messageOf } from '../../model/errors.ts';
import type { Log } from '../../telemetry/log.ts';
import { LASTING } from '../bus.ts';
import { type LastingQueue, partsOf } from './queueNames.ts';
import { BEAT, CONSUMED, HANDS, LEAVE } from './sql.ts';

const BEAT_MS = 1_000;

/** How many messages of one queue a member holds. */
export interface Held {
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
  held(): Record<string, Held>;
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
export class Members {
  readonly #db: Database;
  readonly #log: Log;
  readonly #onTopology: (topology: Topology) => void;
  readonly #own = new Map<string, OwnMember>();
  #others: readonly Member[] = [];
  #timer: NodeJS.Timeout | undefined;
  #beating: Promise<void> = Promise.resolve();

  constructor(db: Database, log: Log, onTopology: (topology: Topology) => void) {
    this.#db = db;
    this.#log = log;
    this.#onTopology = onTopology;
  }

  /** Returns when the others can know of it. */
  async join(member: OwnMember): Promise<void> {
    this.#own.set(member.id, member);
    await this.#beatNow();
    this.#timer ??= setInterval(() => {
      this.#beatNow().catch((error) =>
        // The last that is known holds on.
        this.#log.warn({ reason: messageOf(error) }, 'members not read'),
      );
    }, BEAT_MS);
  }

  async leave(id: string): Promise<void> {
    this.#own.delete(id);
    if (this.#own.size === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
    }
    await this.#beating.catch(() => {});
    await this.#db.query(LEAVE, [id]).catch(() => {});
    this.#reconcile();
  }

  /** What all members hold, this process's as it is now, others' as it was a second ago. */
  async held(): Promise<Record<string, Held>[]> {
    const { rows } = await this.#db.query<{ hands: Record<string, Held> }>(HANDS, [[...this.#own.keys()]]);
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

  #beatNow(): Promise<void> {
    this.#beating = this.#beating.catch(() => {}).then(() => this.#beat());
    return this.#beating;
  }

  async #beat(): Promise<void> {
    const own = [...this.#own.values()];
    if (own.length === 0) return;
    const members = own.map((member) => ({
      id: member.id,
      queues: member.queues,
      hands: member.held(),
      settled: member.settled,
    }));
    const { rows } = await this.#db.query<{ topology: Topology | null; others: Member[] }>(BEAT, [
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
export function partsOfMember(
  id: string,
  queue: LastingQueue,
  members: readonly Member[],
  declared: number,
): string[] {
  const ids = members.filter((member) => member.queues.includes(queue)).map((member) => member.id);
  const place = ids.sort().indexOf(id);
  const offset = LASTING.indexOf(queue) * declared;
  return partsOf(queue, declared).filter((_, i) => (offset + i) % ids.length === place);
}
