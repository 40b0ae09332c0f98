import type { Consumer, Outgoing } from '../../src/engine/bus/bus.ts';
import { addFeedPartition, feedPartitions } from '../../src/engine/database/feedPartitions.ts';
import { startCleaner } from '../../src/engine/fanout/cleaner.ts';
import { CopyBuffer } from '../../src/engine/fanout/copyBuffer.ts';
import { startPlanner } from '../../src/engine/fanout/planner.ts';
import { writeRows } from '../../src/engine/fanout/rowWriter.ts';
import { sweep } from '../../src/engine/fanout/sweeper.ts';
import { startWriter } from '../../src/engine/fanout/writer.ts';
import type { FeedPage } from '../../src/engine/feed/read/read.ts';
import { type Hub, openHub } from '../../src/engine/live/hub.ts';
import { openNotifier } from '../../src/engine/live/notifier.ts';
import type { Presence } from '../../src/engine/live/presence.ts';
import { type ErrorCode, isFeedctlError } from '../../src/engine/model/errors.ts';
import { MAX_ID, timeOfId } from '../../src/engine/model/ids.ts';
import { decodeEvents } from '../../src/engine/model/messages.ts';
import { follow, unfollow } from '../../src/engine/social/follows.ts';
import { createPost, deletePost, updatePost } from '../../src/engine/social/posts.ts';
import { createUser } from '../../src/engine/social/users.ts';
import { DispatchMarks } from '../../src/engine/store/dispatchMarks.ts';
import type { Pair } from '../../src/engine/store/follows.ts';
import { silentLog } from '../../src/engine/telemetry/log.ts';
import { partitionOf } from '../../src/engine/util/hash.ts';
import { inProcessSocket } from '../support/liveSocket.ts';
import { insertSettled } from './beginning.ts';
import { compareFeedsWithModel } from './comparison.ts';
import { type Engine, engine as realEngine } from './engine.ts';
import type { Lane } from './lane.ts';
import { Model } from './model.ts';
import type { History, Operation } from './operations.ts';
import { Random } from './random.ts';
import { type Actor, type Choice, Scheduler } from './scheduler.ts';
import { SimulatedBus } from './simulatedBus.ts';
import { SteppedDatabase } from './steppedDatabase.ts';

/** Errors that a request may return. */
const REFUSALS: readonly ErrorCode[] = ['POST_NOT_FOUND', 'VERSION_CONFLICT', 'OPERATION_RUNNING'];
/** A history has some hundred steps. One with more than this does not end. */
const MAX_STEPS = 20_000;
const MAX_PAGES = 200;
const SWEEP_AFTER = 50;
const MAX_FEED = 100;

interface Role {
  readonly name: string;
  readonly start: (actor: Actor) => Promise<unknown>;
  actor: Actor;
}

interface SocketSession {
  readonly userId: number;
  readonly frames: Set<number>;
  /** The text that the client shows of each post that it got. */
  readonly texts: Map<number, string>;
  connectedAt: number | undefined;
  open: boolean;
  disconnect: () => void;
}

/**
 * Runs one history on the engine and on the model and compares them. Returns every step. Throws with
 * every step if engine and model differ.
 */
export async function runHistory(
  lane: Lane,
  history: History,
  engine: Engine = realEngine,
): Promise<readonly string[]> {
  const run = new HistoryRun(lane, history, engine);
  try {
    await run.start();
    for (const operation of history.operations) await run.operate(operation);
    await run.finish();
    return run.scheduler.trace;
  } catch (error) {
    const why = error instanceof Error ? (error.stack ?? error.message) : String(error);
    throw new Error(`${why}\nusers ${run.users.join(', ')}; steps:\n${run.scheduler.explain()}`);
  } finally {
    await run.end();
  }
}

/** Ids and the latency of messages have the time of this process. */
const clock = { now: () => Date.now() };

export class HistoryRun {
  readonly scheduler: Scheduler;
  readonly bus: SimulatedBus;
  readonly model = new Model();
  readonly users: number[] = [];
  readonly #lane: Lane;
  readonly #history: History;
  readonly #engine: Engine;
  readonly #random: Random;
  readonly #roles: Role[] = [];
  readonly #strands = new Map<Actor, Promise<void>>();
  readonly #sessions: SocketSession[] = [];
  /** The last requested change of each author. */
  readonly #sagas = new Map<number, 'mark' | 'unmark'>();
  /** Actors that divide or retire partitions. */
  readonly #partitioning = new Set<Actor>();
  /** Readers whose feeds are read before the next step. */
  readonly #probes = new Set<number>();
  /** The model's clock before each committed change without an answer. A cache may not know of them. */
  readonly #unannounced = new Map<Actor, number>();
  #hub: Hub | undefined;
  #cachedWalks = 0;
  #failure: Error | undefined;
  #texts = 0;

  constructor(lane: Lane, history: History, engine: Engine) {
    this.#lane = lane;
    this.#history = history;
    this.#engine = engine;
    this.#random = new Random(history.seed);
    this.scheduler = new Scheduler(this.#random, lane.lockWaiters);
    this.scheduler.onTurn = (actor, askedAt) => {
      actor.began(this.model.clock, askedAt);
      // Feeds are read between any two steps of a change of state, and sometimes between other steps.
      if (this.#random.chance(actor.kind === 'saga' ? 0.5 : 0.05))
        this.#probes.add(this.#random.pick(this.users));
    };
    this.bus = new SimulatedBus(this.scheduler);
  }

  async start(): Promise<void> {
    const { db, ids, gatewayId, presence } = this.#lane;
    await this.#lane.tidy();
    while (this.users.length < this.#history.users) {
      const id = await ids.next();
      // Fan-out groups rows by partition: a user of a history is in the same partition in every run.
      if (partitionOf(Math.floor(id / 2 ** 32), id % 2 ** 32, 2) !== this.users.length % 2) continue;
      await createUser({ db, ids }, { id });
      this.users.push(id);
    }
    await this.#begun();
    const known = !this.#random.chance(0.1);
    const parts = (actor: Actor) => {
      const bus = this.bus.port(actor);
      const stepped = new SteppedDatabase(db, actor);
      const notifier = openNotifier(bus, steppedPresence(presence, actor, known));
      return { db: stepped, bus, clock, changes: this.#lane.changes, notifier, log: silentLog };
    };
    // Half of the histories write the rows of small plans without a message.
    const isDirect = this.#history.seed % 2 === 1;
    const planner = (actor: Actor): Promise<Consumer> => {
      const context = parts(actor);
      return startPlanner({
        ...context,
        relations: this.#engine.relations,
        ...(isDirect && { writeRows: (rows) => writeRows(context, rows, new CopyBuffer()) }),
      });
    };
    await this.#startRole('planner', planner);
    if (this.#random.chance(0.5)) await this.#startRole('planner', planner);
    await this.#startRole('writer', (actor) => startWriter(parts(actor)));
    if (this.#random.chance(0.3)) await this.#startRole('writer', (actor) => startWriter(parts(actor)));
    await this.#startRole('cleaner', (actor) => startCleaner(parts(actor)));
    await this.#startRole('gateway', async (actor) => {
      this.#hub = await openHub({ ...parts(actor), gatewayId });
    });
  }

  /** Inserts the follows and posts of the beginning, already handled. */
  async #begun(): Promise<void> {
    const { db, ids } = this.#lane;
    const pairs = this.#history.follows.map((follow) => this.#pair(follow));
    for (const pair of pairs) this.model.follow(pair);
    const authors = this.#history.posts.map((index) => this.#user(index));
    const postIds = await ids.take(authors.length);
    const texts = authors.map(() => this.#text());
    for (const [i, id] of postIds.entries()) this.model.post(id, authors[i]!, texts[i]!);
    await insertSettled(
      db,
      pairs,
      postIds.map((id, i) => ({ id, authorId: authors[i]!, text: texts[i]! })),
    );
    this.model.settle(this.users);
  }

  async operate(operation: Operation): Promise<void> {
    this.scheduler.trace.push(`── ${JSON.stringify(operation)}`);
    await this.begin(operation);
    for (let steps = this.#random.below(this.#random.pick([1, 6, 20, 40])); steps > 0; steps -= 1) {
      await this.#advance();
    }
  }

  /** Stops all failures, lets everything end, and compares. */
  async finish(): Promise<void> {
    this.scheduler.trace.push('── end');
    this.bus.losesAcks = false;
    await this.#drain(() => true);
    for (const [author, change] of this.#sagas) {
      this.#startSaga(author, change);
      await this.#drain(() => true);
    }
    this.model.settle(this.users);
    await this.#compare();
  }

  /** Ends all actors, so that the lane is as before. */
  async end(): Promise<void> {
    for (const actor of [...this.#strands.keys(), ...this.#roles.map((role) => role.actor)]) {
      this.bus.crash(actor);
      actor.crash();
    }
    await Promise.all(this.#strands.values());
    await this.scheduler.quiesce();
    const { db } = this.#lane;
    await db.query('update events set dispatched_at = now() where dispatched_at is null');
    await db.query('delete from celebrities');
    await db.query('delete from feed_items');
    await db.query(
      `with gone as (delete from presence returning *)
       select pg_notify('feedctl_presence', '- ' || gateway_id || ' ' || user_id) from gone`,
    );
  }

  /** Runs one actor until its next step is this one. */
  async until(name: string, step: RegExp): Promise<void> {
    const of = (choice: Choice) => choice.actor.name.startsWith(name);
    for (;;) {
      await this.scheduler.quiesce();
      if (this.scheduler.choices().some((choice) => of(choice) && step.test(choice.label))) return;
      if (!(await this.#advance(of))) throw new Error(`${name} never came to ${step}`);
    }
  }

  /** One step of one actor. */
  async step(name: string): Promise<void> {
    await this.#advance((choice) => choice.actor.name.startsWith(name));
  }

  /** Runs these actors until they wait for others. */
  async only(...names: string[]): Promise<void> {
    while (await this.#advance((choice) => names.some((name) => choice.actor.name.startsWith(name))));
  }

  /** Runs everything but these actors. */
  async without(...names: string[]): Promise<void> {
    await this.#drain((choice) => !names.some((name) => choice.actor.name.startsWith(name)));
  }

  /** Begins an operation: its actor waits for its first turn. */
  async begin(operation: Operation): Promise<void> {
    const { db, ids, cache } = this.#lane;
    const user = (index: number) => this.#user(index);
    const client = (name: string, onCommit: (outgoing: readonly Outgoing[]) => void) => {
      const actor = this.scheduler.actor(name, 'client');
      const stepped = new SteppedDatabase(db, actor);
      const context = {
        db: stepped,
        marks: new DispatchMarks(stepped),
        bus: this.bus.port(actor, (outgoing) => {
          this.#unannounced.set(actor, this.model.clock);
          onCommit(outgoing);
        }),
        ids,
        clock,
        changes: this.#lane.changes,
        // A frame is sent in the step of its check, so no check is pending.
        unfollows: { waitForGateways: async () => {}, close: async () => {} },
        log: silentLog,
      };
      return { actor, context };
    };
    switch (operation.do) {
      case 'follow':
      case 'unfollow': {
        const pair = this.#pair(operation);
        const { actor, context } = client(operation.do, () => {
          this.model[operation.do](pair);
          this.#probes.add(pair.followerId);
        });
        const change = operation.do === 'follow' ? follow : unfollow;
        this.#launch(actor, () => change(context, pair));
        return;
      }
      case 'post': {
        const author = user(operation.author);
        const text = this.#text();
        const { actor, context } = client('post', (outgoing) =>
          this.model.post(decodeEvents(outgoing[0]!.body).events[0]!.subjectId, author, text),
        );
        this.#launch(actor, () => createPost(context, author, text));
        return;
      }
      case 'update':
      case 'delete': {
        const posts = [...this.model.posts.keys()];
        const post = posts[operation.post % posts.length];
        if (post === undefined) return;
        const text = this.#text();
        const { actor, context } = client(operation.do, () => {
          if (operation.do === 'update') this.model.update(post, text);
          else this.model.delete(post);
          this.#probes.add(this.#random.pick(this.users));
        });
        this.#launch(actor, () =>
          operation.do === 'update' ? updatePost(context, post, text) : deletePost(context, post),
        );
        return;
      }
      case 'mark':
      case 'unmark':
        this.#startSaga(user(operation.author), operation.do);
        return;
      case 'trim':
      case 'rebuild': {
        const { actor, context } = client(operation.do, () => {});
        this.#launch(actor, () =>
          operation.do === 'trim'
            ? this.#engine.trim(context.db, user(operation.user), { keep: operation.keep })
            : this.#engine.rebuild(context.db, user(operation.user)),
        );
        return;
      }
      case 'divide': {
        const posts = [...this.model.posts.keys()];
        const cut = posts[operation.post % posts.length];
        if (cut === undefined) return;
        this.#changePartitions('divide', async (stepped) => {
          const { from } = (await feedPartitions(stepped)).at(-1)!;
          const next = { name: `feed_items_${cut}`, from, to: cut };
          if (from < cut) await addFeedPartition(stepped, next);
        });
        return;
      }
      case 'retire':
        // Every partition with an end. The truth stays: readers find those posts at their authors.
        this.#changePartitions('retire', (stepped) =>
          this.#engine.retire(stepped, { beforeMs: timeOfId(MAX_ID) }),
        );
        return;
      case 'connect':
        this.#connect(user(operation.user));
        return;
      case 'disconnect': {
        const session = this.#sessions.find((one) => one.open && one.userId === user(operation.user));
        if (session?.connectedAt === undefined) return;
        session.open = false;
        session.disconnect();
        return;
      }
      case 'read': {
        const actor = this.scheduler.actor('read', 'reader');
        const stepped = new SteppedDatabase(db, actor);
        if (operation.cached) this.#cachedWalks += 1;
        this.#launch(actor, () =>
          this.#walk(
            actor,
            stepped,
            user(operation.user),
            operation.limit,
            operation.cached && cache,
          ).finally(() => {
            if (operation.cached) this.#cachedWalks -= 1;
          }),
        );
        return;
      }
      case 'crash': {
        const alive = [...this.#strands.keys(), ...this.#roles.map((role) => role.actor)];
        await this.#crash(alive[operation.victim % alive.length]!);
        return;
      }
      case 'sweep':
        this.#sweep();
        return;
      case 'settle':
        // Sagas and readers may pause anywhere except in a transaction.
        await this.#drain((choice) => {
          const { kind } = choice.actor;
          return choice.inTransaction || (kind !== 'saga' && kind !== 'reader');
        });
        this.model.settle(this.users);
        this.#forgetAnnounced();
        return;
    }
  }

  #user(index: number): number {
    return this.users[index % this.users.length]!;
  }

  #pair({ reader, next }: { reader: number; next: number }): Pair {
    const author = reader + 1 + (next % (this.users.length - 1));
    return { followerId: this.#user(reader), followeeId: this.#user(author) };
  }

  #startSaga(author: number, change: 'mark' | 'unmark'): void {
    this.#sagas.set(author, change);
    const actor = this.scheduler.actor(change, 'saga');
    const context = {
      db: new SteppedDatabase(this.#lane.db, actor),
      bus: this.bus.port(actor),
      changes: this.#lane.changes,
    };
    const { markCelebrity, unmarkCelebrity } = this.#engine;
    this.#launch(actor, () => (change === 'mark' ? markCelebrity : unmarkCelebrity)(context, author));
  }

  #changePartitions(name: string, change: (db: SteppedDatabase) => Promise<unknown>): void {
    const actor = this.scheduler.actor(name, 'saga');
    this.#partitioning.add(actor);
    this.#launch(actor, () => change(new SteppedDatabase(this.#lane.db, actor)));
  }

  /** Returns whether a change of partitions may hold its lock. A read in between would wait for ever. */
  get #isLocked(): boolean {
    return [...this.#partitioning].some((actor) => !actor.crashed && actor.transactions > 0);
  }

  #sweep(): void {
    const actor = this.scheduler.actor('sweep', 'client');
    const bus = this.bus.port(actor);
    this.#launch(actor, () => sweep({ db: new SteppedDatabase(this.#lane.db, actor), bus }, { minAgeMs: 0 }));
  }

  #connect(userId: number): void {
    const gateway = this.#roles.find((role) => role.name === 'gateway')!.actor;
    const session: SocketSession = {
      userId,
      frames: new Set(),
      texts: new Map(),
      connectedAt: undefined,
      open: true,
      disconnect: () => {},
    };
    this.#sessions.push(session);
    const send = (postId: number, text: string, isEdit: boolean) => {
      if (gateway.crashed) return;
      if (!session.open) this.#fail(`user ${userId} got post ${postId} on a socket that is closed`);
      if (!isEdit && session.frames.has(postId))
        this.#fail(`user ${userId} got post ${postId} twice on one socket`);
      if (!this.model.wasVisibleSince(userId, postId, gateway.steppedAt))
        this.#fail(`user ${userId} got post ${postId}, which is deleted or of an author not followed`);
      if (this.model.posts.get(postId)?.authorId === userId)
        this.#fail(`user ${userId} got their own post ${postId}`);
      if (isEdit && !session.frames.has(postId)) return;
      session.frames.add(postId);
      session.texts.set(postId, text);
    };
    const actor = this.scheduler.actor('connect', 'client');
    this.#launch(actor, async () => {
      const hub = this.#hub!;
      const socket = inProcessSocket(({ messageId, payload }) => {
        if (messageId === 'post' || messageId === 'edited')
          send(Number(payload.postId), String(payload.postText), messageId === 'edited');
      });
      const open = hub.open(socket, userId);
      session.disconnect = () => hub.disconnect(open);
      await gateway.run(() => hub.connect(open));
      session.connectedAt = this.model.clock;
    });
  }

  /** Reads a whole feed page by page while other actors run. */
  async #walk(
    actor: Actor,
    db: SteppedDatabase,
    userId: number,
    limit: number,
    cache: Lane['cache'] | false,
  ): Promise<void> {
    const startedAt = this.#knownSince(cache);
    const arrived = this.model.arrived(userId);
    const seen: number[] = [];
    let cursor: string | null | undefined;
    for (let pages = 0; cursor !== null; pages += 1) {
      if (pages > MAX_PAGES) this.#fail(`the feed of ${userId} has no end`);
      if (cache) await actor.step('the cache hears what has changed', () => this.#lane.heard());
      const done = this.scheduler.read();
      const since = this.#knownSince(cache);
      try {
        const query = { limit, ...(cursor !== undefined && { cursor }) };
        const page = await this.#engine.readFeed(db, userId, query, cache || undefined);
        this.#check(userId, page.items, since);
        if (page.items[0] && page.items[0].postId >= (seen.at(-1) ?? MAX_ID))
          this.#fail(`user ${userId} read ${page.items[0].postId} after ${seen.at(-1)}`);
        seen.push(...page.items.map((item) => item.postId));
        cursor = page.nextCursor;
      } finally {
        done();
      }
    }
    for (const id of arrived) {
      if (this.model.posts.get(id)!.createdAt > startedAt) continue;
      if (this.model.wasThereSince(userId, id, startedAt) && !seen.includes(id))
        this.#fail(`user ${userId} missed post ${id}, which had arrived; read ${seen.join(', ')}`);
    }
  }

  /** Compares at the end, when all actors have finished. */
  async #compare(): Promise<void> {
    await compareFeedsWithModel(this.#lane, this.#engine, this.model, this.users, this.#random);
    for (const session of this.#sessions) {
      if (!session.open || session.connectedAt === undefined) continue;
      for (const post of this.model.pushed(session.userId, session.connectedAt)) {
        if (!session.frames.has(post.id))
          this.#fail(`the socket of user ${session.userId} never got post ${post.id}`);
        if (session.texts.get(post.id) !== post.text)
          this.#fail(`the socket of user ${session.userId} has an old text of post ${post.id}`);
      }
    }
    for (const letter of this.bus.deadLetters) this.#fail(`dead letter in ${letter.queue}: ${letter.reason}`);
    this.#throwFailure();
  }

  async #startRole(name: string, start: Role['start']): Promise<void> {
    const role = { name, start, actor: this.scheduler.actor(name, 'role') };
    this.#roles.push(role);
    await role.actor.run(() => start(role.actor));
  }

  /** Crashes an actor. A role is replaced immediately. */
  async #crash(actor: Actor): Promise<void> {
    this.scheduler.trace.push(`── ${actor.name} crashes`);
    this.bus.crash(actor);
    actor.crash();
    const role = this.#roles.find((one) => one.actor === actor);
    if (!role) return;
    if (role.name === 'gateway') for (const session of this.#sessions) session.open = false;
    role.actor = this.scheduler.actor(role.name, 'role');
    await role.actor.run(() => role.start(role.actor));
  }

  #launch(actor: Actor, work: () => Promise<unknown>): void {
    const strand = actor
      .run(work)
      .then(
        () => this.#unannounced.delete(actor),
        (error) => {
          const refused = REFUSALS.some((code) => isFeedctlError(error, code));
          if (!refused && !isFeedctlError(error, 'INTERRUPTED')) this.#failure ??= error;
        },
      )
      .then(() => {
        this.#strands.delete(actor);
      });
    this.#strands.set(actor, strand);
  }

  async #advance(may?: (choice: Choice) => boolean): Promise<boolean> {
    const moved = await this.scheduler.advance(may);
    if (this.#probes.size > 0) await this.#probe();
    this.#throwFailure();
    return moved;
  }

  /** Reads whole feeds in one moment, from the table and from the cache. */
  async #probe(): Promise<void> {
    await this.scheduler.quiesce();
    if (this.#isLocked) return;
    const readers = [...this.#probes];
    this.#probes.clear();
    for (const userId of readers) {
      // Readers of one user share a load of the cache. A load of a reader who waits for a turn never ends.
      const cache = this.#random.chance(0.3) && this.#cachedWalks === 0 ? this.#lane.cache : undefined;
      if (cache) await this.#lane.heard();
      const { items } = await this.#engine.readFeed(this.#lane.db, userId, { limit: MAX_FEED }, cache);
      const since = this.#knownSince(cache);
      this.#check(userId, items, since);
      const read = new Set(items.map((item) => item.postId));
      for (const id of this.model.arrived(userId)) {
        if (this.model.posts.get(id)!.createdAt > since) continue;
        if (!read.has(id)) this.#fail(`user ${userId} missed post ${id}, which had arrived`);
      }
    }
  }

  /** The model's clock up to which a reader must know all changes. */
  #knownSince(cache: Lane['cache'] | false | undefined): number {
    return cache ? Math.min(this.model.clock, ...this.#unannounced.values()) : this.model.clock;
  }

  /** Handlers of the events have announced the changes of crashed clients. */
  #forgetAnnounced(): void {
    for (const actor of this.#unannounced.keys()) if (actor.crashed) this.#unannounced.delete(actor);
  }

  /** Checks that every read post was visible at some time since then, with a text of that time, in order. */
  #check(userId: number, items: FeedPage['items'], since: number): void {
    let last = MAX_ID;
    for (const item of items) {
      const post = this.model.posts.get(item.postId);
      if (!this.model.wasVisibleSince(userId, item.postId, since))
        this.#fail(`user ${userId} read ${item.postId}, which is deleted or of an author not followed`);
      else if (post!.updatedAt <= since && post!.text !== item.body)
        this.#fail(`user ${userId} read "${item.body}" in post ${item.postId}, expected "${post!.text}"`);
      if (item.postId >= last) this.#fail(`user ${userId} read ${item.postId} after ${last}`);
      last = item.postId;
    }
  }

  /** Runs all actors until outbox and queues are empty. */
  async #drain(may: (choice: Choice) => boolean): Promise<void> {
    for (let steps = 1; steps < MAX_STEPS; steps += 1) {
      const moved = await this.#advance(may);
      if (moved && steps % SWEEP_AFTER !== 0) continue;
      if (await this.#anyUndispatched()) this.#sweep();
      else if (!moved) {
        if (this.bus.isEmpty) return;
        // The server resolves a deadlock after some time, and may have done so since.
        const stuck = !this.scheduler.isWaiting && !this.scheduler.choices().some(may);
        if (stuck) throw new Error('messages are left, and no consumer takes them');
      }
    }
    throw new Error(`not settled after ${MAX_STEPS} steps`);
  }

  async #anyUndispatched(): Promise<boolean> {
    // The previous step may be about to commit one.
    await this.scheduler.quiesce();
    const { rows } = await this.#lane.db.query<{ found: boolean }>(
      'select exists (select from events where dispatched_at is null) as found',
    );
    return rows[0]!.found;
  }

  #text(): string {
    this.#texts += 1;
    return `text ${this.#texts}`;
  }

  #fail(why: string): void {
    this.#failure ??= new Error(why);
  }

  #throwFailure(): void {
    if (this.#failure) throw this.#failure;
  }
}

/** The workers' list of online users. Without a list, every gateway gets everything. */
const steppedPresence = (presence: Presence, actor: Actor, known: boolean): Presence => ({
  settle: () => actor.step('presence', () => presence.settle()),
  get known() {
    return known && presence.known;
  },
  get count() {
    return presence.count;
  },
  gatewaysOf: (userId) => presence.gatewaysOf(userId),
  gateways: () => presence.gateways(),
  close: async () => {},
});
