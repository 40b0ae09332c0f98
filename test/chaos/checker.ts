import {
  type Create,
  type Delete,
  type Edit,
  type FinalState,
  type FollowChange,
  type History,
  type Item,
  keyOf,
  type Operation,
  type Outcome,
  pairOf,
  type Read,
  type Received,
} from './history.ts';

/** The rules of a feed, and the guarantees of one session. */
export const RULES = {
  lost: 'a post that was acknowledged is missing',
  stranger: 'a post of an author who is not followed, or a deleted one, is shown',
  duplicate: 'a post is shown twice',
  order: 'a feed is not ordered from new to old',
  bound: 'more was sent than was asked for',
  text: 'a post has a text that was replaced before',
  'own post': 'an author does not see a post that was acknowledged to them',
  monotonic: 'a later page lacks a post that an earlier page had',
  undone: 'an acknowledged follow or unfollow is undone',
  refused: 'a valid request was refused',
  verify: '`feed verify` finds a difference between the rows of feeds and the truth',
} as const;
export type Rule = keyof typeof RULES;

export interface Finding {
  readonly rule: Rule;
  readonly user: number;
  readonly detail: string;
  /** Key of the post that the finding is about. */
  readonly key?: string;
  /** The author, or the other user of the pair. */
  readonly other?: number;
}

/** A gateway sends a frame this long after it has looked for a deletion, which waits for no gateway. */
const CHECKED_MS = 400;

/** Knowledge of a fact over a span of time. */
type Known = 'yes' | 'no' | 'maybe';

/** A change of a fact. Requests with an unknown outcome change it at any later time, or never. */
interface Change {
  readonly start: number;
  readonly end: number;
  readonly outcome: Outcome;
  readonly to: boolean;
}

/** Returns whether a fact holds in the whole of `[from, to]`. Changes are ordered by their start. */
function knownOver(before: boolean, changes: readonly Change[], from: number, to: number): Known {
  let value = before;
  const possible = new Set<boolean>();
  for (const change of changes) {
    if (change.outcome === 'refused' || change.start > to) continue;
    if (change.outcome === 'unknown' || change.end >= from) possible.add(change.to);
    if (change.outcome === 'ok' && change.end < from) value = change.to;
  }
  possible.add(value);
  return possible.size > 1 ? 'maybe' : value ? 'yes' : 'no';
}

interface Post {
  readonly key: string;
  readonly author: number;
  readonly create: Create;
  readonly lifetime: readonly Change[];
  readonly edits: readonly Edit[];
}

/** Checks one round. The findings are exact: every doubt that a timeout leaves is allowed both ways. */
export function check(history: History, final: FinalState): Finding[] {
  return new Checker(history, final).run();
}

class Checker {
  readonly #history: History;
  readonly #final: FinalState;
  readonly #posts = new Map<string, Post>();
  readonly #pairs = new Map<string, Change[]>();
  readonly #followedBefore: ReadonlySet<string>;
  readonly #findings: Finding[] = [];

  constructor(history: History, final: FinalState) {
    this.#history = history;
    this.#final = final;
    this.#followedBefore = new Set(history.followsBefore.map(([a, b]) => pairOf(a, b)));
    this.#readOperations();
  }

  run(): Finding[] {
    this.#checkRefusals();
    this.#checkFollows();
    this.#checkFinalFeeds();
    this.#checkReads();
    this.#checkSockets();
    return this.#findings;
  }

  /** The outcome, given that commits of some spans may be lost. */
  #outcomeOf({ outcome, start, end, retried }: Operation): Outcome {
    if (outcome !== 'ok') return outcome;
    const isInDoubt = this.#history.mayLose.some(({ from, to }) => end >= from && start <= to);
    return isInDoubt || retried ? 'unknown' : 'ok';
  }

  #readOperations(): void {
    const edits = new Map<string, Edit[]>();
    const deletes = new Map<string, Delete[]>();
    const creates: Create[] = [];
    const add = <T>(to: Map<string, T[]>, key: string, one: T) => {
      const list = to.get(key);
      if (list) list.push(one);
      else to.set(key, [one]);
    };
    for (const one of this.#history.operations) {
      if (one.do === 'create') creates.push(one);
      else if (one.do === 'edit') add(edits, one.key, { ...one, outcome: this.#outcomeOf(one) });
      else if (one.do === 'delete') add(deletes, one.key, one);
      else if (one.do === 'follow' || one.do === 'unfollow')
        add(this.#pairs, pairOf(one.user, one.followee), this.#changeOf(one, one.do === 'follow'));
    }
    for (const create of creates) {
      // A repeated creation has an idempotency key, and a post that is deleted stays deleted.
      const lifetime = [
        this.#changeOf({ ...create, retried: false }, true),
        ...(deletes.get(create.key) ?? []).map((one) => this.#changeOf({ ...one, retried: false }, false)),
      ];
      const { key, user: author } = create;
      this.#posts.set(key, { key, author, create, lifetime, edits: edits.get(key) ?? [] });
    }
  }

  #changeOf(one: Create | Delete | FollowChange, to: boolean): Change {
    return { start: one.start, end: one.end, outcome: this.#outcomeOf(one), to };
  }

  #exists(post: Post, from: number, to: number): Known {
    return knownOver(false, post.lifetime, from, to);
  }

  #follows(follower: number, followee: number, from: number, to: number): Known {
    const pair = pairOf(follower, followee);
    return knownOver(this.#followedBefore.has(pair), this.#pairs.get(pair) ?? [], from, to);
  }

  #add(rule: Rule, user: number, detail: string, about: { key?: string; other?: number } = {}): void {
    this.#findings.push({ rule, user, detail, ...about });
  }

  #checkRefusals(): void {
    for (const one of this.#history.operations)
      if (one.outcome === 'refused' && !this.#isOfLostPost(one))
        this.#add('refused', one.user, `${one.do}: ${one.why}`);
  }

  /** A failover may have lost the post that a change names. */
  #isOfLostPost(one: Operation): boolean {
    if (one.do !== 'edit' && one.do !== 'delete') return false;
    const create = this.#posts.get(one.key)?.create;
    return (
      create !== undefined && this.#outcomeOf(create) === 'unknown' && one.why?.startsWith('404') === true
    );
  }

  #checkFollows(): void {
    for (const pair of this.#pairs.keys()) {
      const [follower, followee] = pair.split(':').map(Number) as [number, number];
      const known = this.#follows(follower, followee, Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY);
      const is = this.#final.follows.has(pair);
      if (known === 'yes' && !is)
        this.#add('undone', follower, `the follow of ${followee} is gone`, { other: followee });
      if (known === 'no' && is)
        this.#add('undone', follower, `the unfollow of ${followee} is undone`, { other: followee });
    }
  }

  /** Checks order, repeats and limits of one page, which depend on no request. */
  #checkPage(where: string, user: number, items: readonly Item[], limit: number): void {
    if (items.length > limit) this.#add('bound', user, `${where}: ${items.length} posts for ${limit}`);
    const seen = new Set<string>();
    for (const [i, item] of items.entries()) {
      const key = keyOf(item.text);
      if (seen.has(key)) this.#add('duplicate', user, `${where}: ${key} twice`, { key });
      seen.add(key);
      if (i > 0 && items[i - 1]!.id <= item.id)
        this.#add('order', user, `${where}: ${items[i - 1]!.id} before ${item.id}`, { key });
    }
  }

  /** Checks that a user may see an item at some time of the span. */
  #checkShown(
    where: string,
    user: number,
    item: Item,
    from: number,
    to: number,
    deletedBefore = from,
  ): Post | undefined {
    const key = keyOf(item.text);
    const post = this.#posts.get(key);
    const about = { key, other: item.author };
    if (!post || post.author !== item.author) {
      this.#add('stranger', user, `${where}: ${item.id} of ${item.author}, which no client wrote`, about);
      return undefined;
    }
    if (this.#exists(post, deletedBefore, to) === 'no')
      this.#add('stranger', user, `${where}: ${key} is deleted, or was refused`, about);
    if (post.author !== user && this.#follows(user, post.author, from, to) === 'no')
      this.#add('stranger', user, `${where}: ${key} of ${post.author}, who is not followed`, about);
    return post;
  }

  /** Checks that a text is not older than the last one before the span. */
  #checkText(where: string, user: number, item: Item, post: Post, from: number): void {
    const texts = new Set([post.create.text]);
    for (const edit of post.edits) {
      if (edit.outcome === 'refused') continue;
      if (edit.outcome === 'ok' && edit.end < from) {
        // An attempt without an answer may still happen.
        const doubtful = post.edits.filter(({ outcome, start }) => outcome === 'unknown' && start < edit.end);
        texts.clear();
        for (const { text } of doubtful) texts.add(text);
      }
      texts.add(edit.text);
    }
    if (!texts.has(item.text))
      this.#add('text', user, `${where}: "${item.text}", not one of ${JSON.stringify([...texts])}`, {
        key: post.key,
        other: post.author,
      });
  }

  #checkFinalFeeds(): void {
    const end = Number.POSITIVE_INFINITY;
    const shownTo = new Map<string, Set<string>>();
    const views = this.#final.feeds.map((feed) => ({
      ...feed,
      where: `feed at ${feed.gateway}`,
      keys: new Set(feed.items.map(({ text }) => keyOf(text))),
    }));
    for (const { user, where, items, limit, keys } of views) {
      this.#checkPage(where, user, items, limit);
      for (const item of items) {
        const post = this.#checkShown(where, user, item, end, end);
        if (!post) continue;
        this.#checkText(where, user, item, post, end);
        const isFollowed = this.#final.follows.has(pairOf(user, post.author));
        if (post.author !== user && !isFollowed)
          this.#add('stranger', user, `${where}: ${post.key}, and follows has no such row`, {
            key: post.key,
            other: post.author,
          });
      }
      for (const key of keys) shownTo.set(key, (shownTo.get(key) ?? new Set()).add(where));
    }
    // A post whose fate is unknown is shown to all or to none.
    for (const view of views) {
      const { user, where, keys } = view;
      for (const post of this.#posts.values()) {
        if (post.author !== user && !this.#final.follows.has(pairOf(user, post.author))) continue;
        const must = this.#exists(post, end, end) === 'yes' || shownTo.has(post.key);
        if (must && !keys.has(post.key) && this.#reaches(view, post.create.postId ?? 0))
          this.#add('lost', user, `${where}: no ${post.key} of ${post.author}`, {
            key: post.key,
            other: post.author,
          });
      }
    }
  }

  #checkReads(): void {
    const last = new Map<number, Read>();
    for (const one of this.#history.operations) {
      if (one.do !== 'read' || one.outcome !== 'ok') continue;
      const where = `page at ${one.gateway}`;
      this.#checkPage(where, one.user, one.items, one.limit);
      for (const item of one.items) {
        const post = this.#checkShown(where, one.user, item, one.start, one.end);
        if (post && !one.degraded) this.#checkText(where, one.user, item, post, one.start);
      }
      if (one.degraded) continue;
      this.#checkOwn(where, one);
      const earlier = last.get(one.user);
      if (earlier && earlier.end < one.start) this.#checkMonotonic(where, earlier, one);
      last.set(one.user, one);
    }
  }

  /** Returns whether a page covers a post: it reaches its last item, or the beginning if it is not full. */
  #reaches({ items, limit }: Pick<Read, 'items' | 'limit'>, postId: number): boolean {
    return items.length < limit || postId >= items.at(-1)!.id;
  }

  #checkOwn(where: string, read: Read): void {
    const shown = new Set(read.items.map(({ text }) => keyOf(text)));
    for (const post of this.#posts.values()) {
      const { create } = post;
      if (post.author !== read.user || create.postId === undefined || shown.has(post.key)) continue;
      if (this.#exists(post, read.start, read.end) === 'yes' && this.#reaches(read, create.postId))
        this.#add('own post', read.user, `${where}: no ${post.key}`, { key: post.key, other: read.user });
    }
  }

  #checkMonotonic(where: string, earlier: Read, read: Read): void {
    const shown = new Set(read.items.map(({ id }) => id));
    for (const item of earlier.items) {
      if (shown.has(item.id) || !this.#reaches(read, item.id)) continue;
      const post = this.#posts.get(keyOf(item.text));
      if (!post || this.#exists(post, earlier.start, read.end) !== 'yes') continue;
      const isFollowed =
        post.author === read.user || this.#follows(read.user, post.author, earlier.start, read.end) === 'yes';
      if (isFollowed)
        this.#add('monotonic', read.user, `${where}: no ${post.key}, which the page before had`, {
          key: post.key,
          other: post.author,
        });
    }
  }

  #checkSockets(): void {
    const byUser = new Map<number, Received[]>();
    for (const one of this.#history.received) {
      const list = byUser.get(one.user);
      if (list) list.push(one);
      else byUser.set(one.user, [one]);
    }
    for (const [user, frames] of byUser) {
      const keys = new Set<string>();
      for (const { kind, item, at, opened } of frames) {
        if (!item || kind === 'deleted') continue;
        const created = this.#posts.get(keyOf(item.text))?.create.start ?? opened;
        // The frame was sent between these times.
        const sent = at - this.#history.flightMs;
        const from = Math.max(opened, created, sent);
        const deletedBefore = Math.max(opened, created, sent - CHECKED_MS);
        const post = this.#checkShown('socket', user, item, from, at, deletedBefore);
        if (kind !== 'post') continue;
        if (post?.author === user) this.#add('stranger', user, `socket: the own post ${post.key}`);
        if (post && keys.has(post.key))
          this.#add('duplicate', user, `socket: ${post.key} twice`, { key: post.key, other: post.author });
        if (post) keys.add(post.key);
      }
      this.#checkArrived(user, frames, keys);
    }
  }

  /** A client that stays connected, and resumes, gets all posts since its first session. */
  #checkArrived(user: number, frames: readonly Received[], keys: ReadonlySet<string>): void {
    const since = frames.find(({ kind }) => kind === 'hello')?.at ?? Number.POSITIVE_INFINITY;
    // After this, the gateway has said that it does not send what was missed.
    const gap = frames.findLast(({ recovered }) => recovered === false)?.at ?? 0;
    const end = Number.POSITIVE_INFINITY;
    for (const post of this.#posts.values()) {
      if (post.author === user || keys.has(post.key)) continue;
      const { start, end: created } = post.create;
      if (start < since || start < gap || this.#exists(post, created + 1, end) !== 'yes') continue;
      if (this.#follows(user, post.author, start, end) === 'yes')
        this.#add('lost', user, `socket: no ${post.key} of ${post.author}`, {
          key: post.key,
          other: post.author,
        });
    }
  }
}
