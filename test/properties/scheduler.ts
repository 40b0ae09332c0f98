import { AsyncLocalStorage } from 'node:async_hooks';
import { FeedctlError } from '../../src/engine/model/errors.ts';
import type { Random } from './random.ts';

/** Steps of a crashed actor throw this. A FeedctlError returns its session to the pool. */
export class Crash extends FeedctlError {
  constructor() {
    super('INTERRUPTED', 'crashed');
  }
}

/**
 * `client`: one request. `role`: a planner, writer, cleaner or gateway. `saga`: work in several
 * transactions that may pause between any two. `reader`: reads a feed page by page.
 */
export type ActorKind = 'client' | 'role' | 'saga' | 'reader';

/** A possible next step. */
export interface Choice {
  readonly actor: Actor;
  readonly label: string;
  readonly weight: number;
  /** The step belongs to an open transaction, whose locks may block others. */
  readonly inTransaction: boolean;
  /** Number of steps before this one was requested. */
  readonly askedAt?: number;
  take(): void;
}

interface Gate {
  readonly actor: Actor;
  readonly label: string;
  readonly slow: boolean;
  readonly inTransaction: boolean;
  readonly askedAt: number;
  readonly ready: () => boolean;
  open(): void;
}

const actors = new AsyncLocalStorage<Actor>();
export const currentActor = (): Actor | undefined => actors.getStore();

/** Delayed polls and redeliveries happen at any time, mostly late. */
const SLOW = 0.1;
/** A longer step may wait for a lock. The server is queried, as time alone proves nothing. */
const LOOK_AFTER_MS = 3;
/** Steps take milliseconds. A step that takes this long means that the harness hangs. */
const HUNG_MS = 20_000;

/** One process, or one request in it, which takes steps until it ends. */
export class Actor {
  readonly id: number;
  readonly name: string;
  readonly kind: ActorKind;
  readonly weight: number;
  readonly #scheduler: Scheduler;
  crashed = false;
  /** Number of its open transactions. */
  transactions = 0;
  /** The model's clock at the beginning of the last step, or of the first of concurrent steps. */
  steppedAt = 0;
  readonly #firstOf = new Map<number, number>();

  constructor(scheduler: Scheduler, id: number, name: string, kind: ActorKind, weight: number) {
    this.#scheduler = scheduler;
    this.id = id;
    this.name = name;
    this.kind = kind;
    this.weight = weight;
  }

  /** Concurrent statements count as one read, as old as the first of them. */
  began(clock: number, askedAt: number): void {
    this.steppedAt = this.#firstOf.get(askedAt) ?? clock;
    this.#firstOf.set(askedAt, this.steppedAt);
  }

  /** Runs `work` as this actor, which owns the sleeps of `work`. */
  run<T>(work: () => T): T {
    return actors.run(this, work);
  }

  /** Waits for a turn. Returns the function that ends the step. */
  async begin(label: string, options: { inTransaction?: boolean } = {}): Promise<() => void> {
    if (this.crashed) throw new Crash();
    await this.#scheduler.gate(this, label, { inTransaction: options.inTransaction ?? false });
    if (this.crashed) throw new Crash();
    return this.#scheduler.track();
  }

  /** Runs one step, which other actors see only when it is done. */
  async step<T>(
    label: string,
    work: () => Promise<T> | T,
    options: { inTransaction?: boolean } = {},
  ): Promise<T> {
    const done = await this.begin(label, options);
    try {
      return await work();
    } finally {
      done();
    }
  }

  /** Continues the current step. */
  async within<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#scheduler.track();
    try {
      return await work();
    } finally {
      done();
    }
  }

  track(): () => void {
    return this.#scheduler.track();
  }

  /** Sleeps until the scheduler continues. A crash ends the sleep, and the next step throws. */
  async sleep(ms: number): Promise<void> {
    if (this.crashed) return;
    await this.#scheduler.gate(this, `sleep ${ms} ms`, { ms });
  }

  crash(): void {
    this.crashed = true;
    this.#scheduler.openAll(this);
  }
}

/** Runs one step of one actor at a time, in the order of the seed. */
export class Scheduler {
  readonly random: Random;
  /** Every step so far, to explain a failure. */
  readonly trace: string[] = [];
  /** Steps that belong to no actor: deliveries. */
  readonly sources: (() => Choice[])[] = [];
  /** Called when an actor gets its turn, with the number of steps at its request. */
  onTurn: (actor: Actor, askedAt: number) => void = () => {};
  readonly #lockWaiters: () => Promise<number>;
  /** Weight of an actor that continues, outside of a transaction and within one. */
  readonly #stickiness: number;
  readonly #inTransaction: number;
  #gates: Gate[] = [];
  #actors = 0;
  #inFlight = 0;
  #change = Promise.withResolvers<void>();
  #last: Actor | undefined;
  readonly #reads = new Set<object>();

  /** `lockWaiters` returns the number of sessions that wait for a lock. */
  constructor(random: Random, lockWaiters: () => Promise<number>) {
    this.random = random;
    this.#lockWaiters = lockWaiters;
    this.#stickiness = random.pick([0, 0.3, 0.7]);
    this.#inTransaction = random.pick([0.95, 0.9, 0.5, 0]);
  }

  /** Makes some actors much slower than others, which leads to rare orders. */
  actor(name: string, kind: ActorKind): Actor {
    this.#actors += 1;
    const weight = this.random.pick([0.03, 0.3, 1, 1, 1, 3]);
    return new Actor(this, this.#actors, `${name}#${this.#actors}`, kind, weight);
  }

  /** A running read. No request takes as long as the pause between two states of a celebrity. */
  read(): () => void {
    const read = {};
    this.#reads.add(read);
    return () => this.#reads.delete(read);
  }

  gate(actor: Actor, label: string, options: { inTransaction?: boolean; ms?: number }): Promise<void> {
    const { ms = 0 } = options;
    const outlived = ms >= 400 ? [...this.#reads] : [];
    return new Promise((open) => {
      this.#gates.push({
        actor,
        label,
        open,
        slow: ms > 5,
        inTransaction: options.inTransaction ?? false,
        askedAt: this.trace.length,
        ready: () => !outlived.some((read) => this.#reads.has(read)),
      });
      this.#changed();
    });
  }

  openAll(actor: Actor): void {
    const opened = this.#gates.filter((gate) => gate.actor === actor);
    this.#gates = this.#gates.filter((gate) => gate.actor !== actor);
    for (const gate of opened) gate.open();
  }

  track(): () => void {
    this.#inFlight += 1;
    let done = false;
    return () => {
      if (done) return;
      done = true;
      this.#inFlight -= 1;
      this.#changed();
    };
  }

  choices(): Choice[] {
    const gates = this.#gates
      .filter((gate) => gate.ready())
      .map(
        (gate): Choice => ({
          actor: gate.actor,
          label: gate.label,
          weight: gate.actor.weight * (gate.slow ? SLOW : 1),
          inTransaction: gate.inTransaction,
          askedAt: gate.askedAt,
          take: () => {
            this.#gates.splice(this.#gates.indexOf(gate), 1);
            gate.open();
          },
        }),
      );
    // Two steps that a lock blocked may return in either order, and so may two steps of one actor.
    gates.sort((a, b) => a.actor.id - b.actor.id || (a.label < b.label ? -1 : Number(a.label > b.label)));
    return [...gates, ...this.sources.flatMap((source) => source())];
  }

  /** Runs one possible step. Returns false if there is none. */
  async advance(may: (choice: Choice) => boolean = () => true): Promise<boolean> {
    await this.quiesce();
    const choices = this.choices().filter(may);
    if (choices.length === 0) return false;
    const again = choices.filter((choice) => choice.actor === this.#last);
    const stick = again.some((choice) => choice.inTransaction) ? this.#inTransaction : this.#stickiness;
    this.take(this.random.weighted(again.length > 0 && this.random.chance(stick) ? again : choices));
    return true;
  }

  take(choice: Choice): void {
    this.trace.push(`${choice.actor.name}: ${choice.label}`);
    this.#last = choice.actor;
    this.onTurn(choice.actor, choice.askedAt ?? this.trace.length);
    choice.take();
  }

  /** Resolves when each begun step has returned or waits for a lock, and each actor waits for its turn. */
  async quiesce(): Promise<void> {
    const startedAt = Date.now();
    for (;;) {
      // Work after a step runs in microtasks and ticks; a stream's events need two rounds of the loop.
      for (let round = 0; round < 4; round += 1) await new Promise((done) => setImmediate(done));
      if (this.#inFlight === 0) return;
      const inFlight = this.#inFlight;
      const changed = await this.#waitForChange();
      if (changed || inFlight !== this.#inFlight) continue;
      if ((await this.#lockWaiters()) >= this.#inFlight) return;
      if (Date.now() - startedAt > HUNG_MS) throw new Error(`a step does not return:\n${this.explain()}`);
    }
  }

  /** Returns whether a begun step waits for a lock, possibly in a deadlock. */
  get isWaiting(): boolean {
    return this.#inFlight > 0;
  }

  explain(): string {
    const waiting = this.#gates.map((gate) => `  waits: ${gate.actor.name}: ${gate.label}`);
    return [...this.trace.map((line) => `  ${line}`), ...waiting].join('\n');
  }

  async #waitForChange(): Promise<boolean> {
    let timer: NodeJS.Timeout | undefined;
    const timeout = new Promise<boolean>((done) => {
      timer = setTimeout(() => done(false), LOOK_AFTER_MS);
    });
    const changed = await Promise.race([this.#change.promise.then(() => true), timeout]);
    clearTimeout(timer);
    return changed;
  }

  #changed(): void {
    this.#change.resolve();
    this.#change = Promise.withResolvers<void>();
  }
}
