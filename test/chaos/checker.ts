import {
  type FinalState,
  type History,
  type Item,
  keyOf,
  type Operation,
  pairOf,
  type Read,
} from './history.ts';
import { Knowledge, type Post } from './knowledge.ts';
import type { Finding, Report } from './rules.ts';
import { SocketRules } from './socketRules.ts';

/** Checks one round. The findings are exact: every doubt that a timeout leaves is allowed both ways. */
export function check(history: History, final: FinalState): Finding[] {
  return new Checker(history, final).run();
}

class Checker {
  readonly #history: History;
  readonly #final: FinalState;
  readonly #known: Knowledge;
  readonly #findings: Finding[] = [];

  constructor(history: History, final: FinalState) {
    this.#history = history;
    this.#final = final;
    this.#known = new Knowledge(history);
  }

  run(): Finding[] {
    this.#checkRefusals();
    this.#checkFollows();
    this.#checkFinalFeeds();
    this.#checkReads();
    new SocketRules(this.#history, this.#known, {
      add: this.#add,
      shown: (...args) => this.#checkShown(...args),
      text: (...args) => this.#checkText(...args),
    }).run();
    return this.#findings;
  }

  readonly #add: Report = (rule, user, detail, about = {}) => {
    this.#findings.push({ rule, user, detail, ...about });
  };

  #checkRefusals(): void {
    for (const one of this.#history.operations)
      if (one.outcome === 'refused' && !this.#isOfLostPost(one))
        this.#add('refused', one.user, `${one.do}: ${one.why}`);
  }

  /** A failover may have lost the post that a change names. */
  #isOfLostPost(one: Operation): boolean {
    if (one.do !== 'edit' && one.do !== 'delete') return false;
    const create = this.#known.posts.get(one.key)?.create;
    return create !== undefined && this.#known.mayBeLost(create) && one.why?.startsWith('404') === true;
  }

  #checkFollows(): void {
    for (const pair of this.#known.pairs.keys()) {
      const [follower, followee] = pair.split(':').map(Number) as [number, number];
      const known = this.#known.follows(
        follower,
        followee,
        Number.POSITIVE_INFINITY,
        Number.POSITIVE_INFINITY,
      );
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
    const post = this.#known.posts.get(key);
    const about = { key, other: item.author };
    if (!post || post.author !== item.author) {
      this.#add('stranger', user, `${where}: ${item.id} of ${item.author}, which no client wrote`, about);
      return undefined;
    }
    if (this.#known.exists(post, deletedBefore, to) === 'no')
      this.#add('stranger', user, `${where}: ${key} is deleted, or was refused`, about);
    if (post.author !== user && this.#known.follows(user, post.author, from, to) === 'no')
      this.#add('stranger', user, `${where}: ${key} of ${post.author}, who is not followed`, about);
    return post;
  }

  /** Checks that a text is not older than the last one before the span. */
  #checkText(
    where: string,
    user: number,
    item: Item,
    post: Post,
    [from, to]: readonly [number, number],
  ): void {
    const texts = this.#known.textsOf(post, from, to);
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
        this.#checkText(where, user, item, post, [end, end]);
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
      for (const post of this.#known.posts.values()) {
        if (post.author !== user && !this.#final.follows.has(pairOf(user, post.author))) continue;
        const must = this.#known.exists(post, end, end) === 'yes' || shownTo.has(post.key);
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
        if (post && !one.degraded) this.#checkText(where, one.user, item, post, [one.start, one.end]);
      }
      if (one.degraded) continue;
      this.#checkOwn(where, one);
      const earlier = last.get(one.user);
      if (earlier && earlier.end < one.start) this.#checkMonotonic(where, earlier, one);
      // A failover loses rows of feeds too, which fan-out writes again.
      if (!this.#known.mayBeLost(one)) last.set(one.user, one);
    }
  }

  /** Returns whether a page covers a post: it reaches its last item, or the beginning if it is not full. */
  #reaches({ items, limit }: Pick<Read, 'items' | 'limit'>, postId: number): boolean {
    return items.length < limit || postId >= items.at(-1)!.id;
  }

  #checkOwn(where: string, read: Read): void {
    const shown = new Set(read.items.map(({ text }) => keyOf(text)));
    for (const post of this.#known.posts.values()) {
      const { create } = post;
      if (post.author !== read.user || create.postId === undefined || shown.has(post.key)) continue;
      if (this.#known.exists(post, read.start, read.end) === 'yes' && this.#reaches(read, create.postId))
        this.#add('own post', read.user, `${where}: no ${post.key}`, { key: post.key, other: read.user });
    }
  }

  #checkMonotonic(where: string, earlier: Read, read: Read): void {
    const shown = new Set(read.items.map(({ id }) => id));
    for (const item of earlier.items) {
      if (shown.has(item.id) || !this.#reaches(read, item.id)) continue;
      const post = this.#known.posts.get(keyOf(item.text));
      if (!post || this.#known.exists(post, earlier.start, read.end) !== 'yes') continue;
      const isFollowed =
        post.author === read.user ||
        this.#known.follows(read.user, post.author, earlier.start, read.end) === 'yes';
      if (isFollowed)
        this.#add('monotonic', read.user, `${where}: no ${post.key}, which the page before had`, {
          key: post.key,
          other: post.author,
        });
    }
  }
}
