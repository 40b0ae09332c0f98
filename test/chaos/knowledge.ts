import {
  type Checkpoint,
  type Create,
  type Delete,
  type Edit,
  type FollowChange,
  type History,
  keyOf,
  type Operation,
  type Outcome,
  pairOf,
} from './history.ts';

/** Knowledge of a fact over a span of time. */
export type Known = 'yes' | 'no' | 'maybe';

/**
 * A request without an answer happens within this time after the client has given it up, or never. A gateway
 * begins its last try within 3 s, which the database cancels after 5 s, and the gateway after 7 s.
 */
export const SETTLE_MS = 15_000;

/** A change of a fact. */
export interface Change<T> {
  readonly start: number;
  readonly end: number;
  readonly outcome: Outcome;
  /** An attempt of the request may change the fact again until then. */
  readonly settled: number;
  readonly to: T;
}

export interface Post {
  readonly key: string;
  readonly author: number;
  readonly create: Create;
  readonly lifetime: readonly Change<boolean>[];
  readonly texts: readonly Change<string>[];
}

/** Returns when a request without an answer has happened, if it ever does. Links may hold it up. */
export function settledAt(history: Pick<History, 'held'>, end: number): number {
  const byItself = end + SETTLE_MS;
  const held = history.held.filter(({ from, to }) => from <= byItself && to >= end).map(({ to }) => to);
  return Math.max(byItself, ...held.map((to) => to + SETTLE_MS));
}

/**
 * Returns the values that a fact may have at some time of `[from, to]`. Changes are ordered by their start,
 * and no two of them run at the same time. A value that was read counts only where changes leave a doubt.
 */
export function valuesOver<T>(
  before: T,
  changes: readonly Change<T>[],
  [from, to]: readonly [number, number],
  reads: readonly { readonly at: number; readonly value: T }[] = [],
): Set<T> {
  let values = new Set([before]);
  let lingering: Change<T>[] = [];
  let next = 0;
  const readUntil = (at: number) => {
    for (; next < reads.length && reads[next]!.at <= at; next += 1) {
      lingering = [];
      if (values.size > 1) values = new Set([reads[next]!.value]);
    }
  };
  for (const change of changes) {
    const { start, end, outcome } = change;
    if (outcome === 'refused' || start > to) continue;
    readUntil(Math.min(start, from));
    // An earlier attempt may happen after this change.
    lingering = lingering.filter(({ settled }) => settled >= start);
    if (outcome === 'ok' && end < from) values = new Set(lingering.map((one) => one.to));
    values.add(change.to);
    if (change.settled > end) lingering.push(change);
  }
  readUntil(from);
  return values;
}

/** What clients know of posts and follows at each time, by their requests and answers. */
export class Knowledge {
  readonly #history: History;
  readonly posts = new Map<string, Post>();
  readonly pairs = new Map<string, Change<boolean>[]>();
  readonly #followedBefore: ReadonlySet<string>;
  /** The texts in the feed of each author at each checkpoint. */
  readonly #ownTexts: readonly { readonly at: number; readonly texts: ReadonlyMap<string, string> }[];

  constructor(history: History) {
    this.#history = history;
    this.#followedBefore = new Set(history.followsBefore.map(([a, b]) => pairOf(a, b)));
    this.#ownTexts = history.checkpoints.map(({ at, state }) => ({ at, texts: ownTexts(state) }));
    this.#readOperations();
  }

  get checkpoints(): readonly Checkpoint[] {
    return this.#history.checkpoints;
  }

  /** Returns whether a request is of a time whose commits may be lost. */
  mayBeLost({ start, end }: { readonly start: number; readonly end: number }): boolean {
    return this.#history.mayLose.some(({ from, to }) => end >= from && start <= to);
  }

  /** Returns whether a post exists in the whole of a span. */
  exists(post: Post, from: number, to: number): Known {
    const reads = this.#ownTexts.map(({ at, texts }) => ({ at, value: texts.has(post.key) }));
    return known(valuesOver(false, post.lifetime, [from, to], reads));
  }

  follows(follower: number, followee: number, from: number, to: number): Known {
    const pair = pairOf(follower, followee);
    const reads = this.checkpoints.map(({ at, state }) => ({ at, value: state.follows.has(pair) }));
    const before = this.#followedBefore.has(pair);
    return known(valuesOver(before, this.pairs.get(pair) ?? [], [from, to], reads));
  }

  /** Returns the texts that a reader of the span may get. */
  textsOf(post: Post, from: number, to: number): Set<string> {
    const { create, key, texts } = post;
    const reads = this.#ownTexts.flatMap((one) => {
      const value = one.texts.get(key);
      return value === undefined ? [] : [{ at: one.at, value }];
    });
    return valuesOver(create.text, texts, [from, to], reads);
  }

  #readOperations(): void {
    const texts = new Map<string, Change<string>[]>();
    const deletes = new Map<string, Delete[]>();
    const creates: Create[] = [];
    for (const one of this.#history.operations) {
      if (one.do === 'create') creates.push(one);
      else if (one.do === 'edit') add(texts, one.key, this.#changeOf(one, one.text));
      else if (one.do === 'delete') add(deletes, one.key, one);
      else if (one.do === 'follow' || one.do === 'unfollow')
        add(this.pairs, pairOf(one.user, one.followee), this.#changeOf(one, one.do === 'follow'));
    }
    for (const create of creates) {
      // A repeated creation has an idempotency key, and a post that is deleted stays deleted.
      const lifetime = [
        this.#changeOf({ ...create, retried: false }, true),
        ...(deletes.get(create.key) ?? []).map((one) => this.#changeOf({ ...one, retried: false }, false)),
      ];
      const { key, user: author } = create;
      this.posts.set(key, { key, author, create, lifetime, texts: texts.get(key) ?? [] });
    }
  }

  #changeOf<T>(one: Create | Delete | Edit | FollowChange, to: T): Change<T> {
    const { start, end, retried } = one;
    const isLost = one.outcome === 'ok' && this.mayBeLost(one);
    const outcome: Outcome = isLost ? 'unknown' : one.outcome;
    const lostUntil = this.#history.mayLose.map((span) => span.to).filter((until) => until >= start);
    const isInDoubt = one.outcome === 'unknown' || retried;
    const settled = Math.max(
      isInDoubt ? settledAt(this.#history, end) : end,
      isLost ? Math.min(...lostUntil) : end,
    );
    return { start, end, outcome, settled, to };
  }
}

const add = <T>(to: Map<string, T[]>, key: string, one: T): void => {
  const list = to.get(key);
  if (list) list.push(one);
  else to.set(key, [one]);
};

const known = (values: ReadonlySet<boolean>): Known =>
  values.size > 1 ? 'maybe' : values.has(true) ? 'yes' : 'no';

function ownTexts({ feeds }: Checkpoint['state']): Map<string, string> {
  const own = feeds.flatMap(({ user, items }) => items.filter(({ author }) => author === user));
  return new Map(own.map(({ text }) => [keyOf(text), text]));
}

/** Returns whether a request is one that clients cannot know the result of. */
export const isInDoubt = ({ outcome, retried }: Operation): boolean => outcome === 'unknown' || retried;
