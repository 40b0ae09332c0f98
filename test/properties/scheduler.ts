import { AsyncLocalStorage } from 'node:async_hooks';
import { FeedctlError } from '../../src/engine/model/errors.ts';
import type { Random } from './random.ts';

/** What an actor's steps throw once it has crashed. A FeedctlError, so that its session goes back to the pool. */
export class Crash extends FeedctlError {
  constructor() {
    super('INTERRUPTED', 'crashed');
  }
}

/**
 * `client`: one request. `role`: a planner, writer, cleaner or gateway. `saga`: work in several transactions that
 * may stop between any two for as long as it likes. `reader`: a walk through a feed.
 */
export type ActorKind = 'client' | 'role' | 'saga' | 'reader';

/** Something that may happen next. */
export interface Choice {
  readonly actor: Actor;
  readonly label: string;
  readonly weight: number;
  /** In a transaction that is open: whoever waits for its locks waits until it goes on. */
  readonly inTransaction: boolean;
  /** After how many steps it was asked for. */
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

/** Polls and redeliveries that were put off: they may come at any time, and mostly come late. */
const SLOW = 0.1;
/** A step that takes longer may be waiting for a lock: the server is asked. It decides, not the time. */
const LOOK_AFTER_MS = 3;
/** A history's steps take milliseconds: this is a harness that hangs. */
const HUNG_MS = 20_000;

/** One process, or one request in it: what it does, step by step, and its end. */
export class Actor {
  readonly id: number;
  readonly name: string;
  readonly kind: ActorKind;
  readonly weight: number;
  readonly #scheduler: Scheduler;
  crashed = false;
  /** The model's clock when this actor's last step began, or the first of those that were asked for together with it. */
  steppedAt = 0;
  readonly #firstOf = new Map<number, number>();

  constructor(scheduler: Scheduler, id: number, name: string, kind: ActorKind, weight: number) {
    this.#scheduler = scheduler;
    this.id = id;
    this.name = name;
    this.kind = kind;
    this.weight = weight;
  }

  /** Statements that are sent side by side are one look at the world, as old as the first of them. */
  began(clock: number, askedAt: number): void {
    this.steppedAt = this.#firstOf.get(askedAt) ?? clock;
    this.#firstOf.set(askedAt, this.steppedAt);
  }

  /** Runs `work` as this actor: sleeps below it are this actor's. */
  run<T>(work: () => T): T {
    return actors.run(this, work);
  }

  /** Waits for a turn. The step then lasts until the function that is returned is called. */
  async begin(label: string, options: { inTransaction?: boolean } = {}): Promise<() => void> {
    if (this.crashed) throw new Crash();
    await this.#scheduler.gate(this, label, { inTransaction: options.inTransaction ?? false });
    if (this.crashed) throw new Crash();
    return this.#scheduler.track();
  }

  /** One step of which nothing is seen from outside until it is done. */
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

  /** Goes on with the step that this actor is in. */
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

  /** Time passes when the scheduler says so. A sleep that is cut off by a crash ends: the next step is refused. */
  async sleep(ms: number): Promise<void> {
    if (this.crashed) return;
    await this.#scheduler.gate(this, `sleep ${ms} ms`, { ms });
  }

  crash(): void {
    this.crashed = true;
    this.#scheduler.openAll(this);
  }
}

/** Lets one actor take one step at a time, in an order that the seed decides. */
export class Scheduler {
  readonly random: Random;
  /** Every step so far, for whoever has to understand a failure. */
  readonly trace: string[] = [];
  /** Other things that may happen: deliveries. */
  readonly sources: (() => Choice[])[] = [];
  /** Called when an actor gets its turn, for what it asked for after so many steps. */
  onTurn: (actor: Actor, askedAt: number) => void = () => {};
  readonly #lockWaiters: () => Promise<number>;
  /** How often an actor that may go on does so, out of a transaction and within one. */
  readonly #stickiness: number;
  readonly #inTransaction: number;
  #gates: Gate[] = [];
  #actors = 0;
  #inFlight = 0;
  #change = Promise.withResolvers<void>();
  #last: Actor | undefined;
  readonly #reads = new Set<object>();

  /** `lockWaiters`: how many sessions of the database wait for a lock now. */
  constructor(random: Random, lockWaiters: () => Promise<number>) {
    this.random = random;
    this.#lockWaiters = lockWaiters;
    this.#stickiness = random.pick([0, 0.3, 0.7]);
    this.#inTransaction = random.pick([0.95, 0.9, 0.5, 0]);
  }

  /** Some actors are much slower than others: that is when the rare orders happen. */
  actor(name: string, kind: ActorKind): Actor {
    this.#actors += 1;
    const weight = this.random.pick([0.03, 0.3, 1, 1, 1, 3]);
    return new Actor(this, this.#actors, `${name}#${this.#actors}`, kind, weight);
  }

  /** A read that is under way. Nobody's request takes as long as the pause between two states of a celebrity. */
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
    // Two steps that a lock held back may come back in either order, and so may two of one actor.
    gates.sort((a, b) => a.actor.id - b.actor.id || (a.label < b.label ? -1 : Number(a.label > b.label)));
    return [...gates, ...this.sources.flatMap((source) => source())];
  }

  /** One step of whoever may take one. False where nobody may. */
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

  /** Resolves when every step that was begun has returned or waits for a lock, and every actor for its turn. */
  async quiesce(): Promise<void> {
    const startedAt = Date.now();
    for (;;) {
      // What follows a step runs in microtasks and ticks; a stream's events take two rounds of the loop.
      for (let round = 0; round < 4; round += 1) await new Promise((done) => setImmediate(done));
      if (this.#inFlight === 0) return;
      const inFlight = this.#inFlight;
      const changed = await this.#waitForChange();
      if (changed || inFlight !== this.#inFlight) continue;
      if ((await this.#lockWaiters()) >= this.#inFlight) return;
      if (Date.now() - startedAt > HUNG_MS) throw new Error(`a step does not return:\n${this.explain()}`);
    }
  }

  /** A step has begun and not returned: it waits for a lock, maybe for one whose owner waits for it. */
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
