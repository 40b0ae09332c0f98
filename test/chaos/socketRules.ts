import { type History, type Item, keyOf, type Received } from './history.ts';
import type { Knowledge, Post } from './knowledge.ts';
import type { Report } from './rules.ts';

/**
 * A gateway sends a frame within 0.4 s after it has looked for deletions and edits. On a busy machine it may
 * lose the processor between its last look at the clock and the sending.
 */
const CHECKED_MS = 400 + 100;
/** A client that has missed more posts than this reads its feed instead. */
const RESUMED_POSTS = 1_000;

interface Checks {
  readonly add: Report;
  /** Checks that a user may see an item. Returns its post. */
  shown(
    where: string,
    user: number,
    item: Item,
    from: number,
    to: number,
    deletedBefore: number,
  ): Post | undefined;
  text(where: string, user: number, item: Item, post: Post, span: readonly [number, number]): void;
}

/** The rules of sockets: what they get, once, and what they do not get. */
export class SocketRules {
  readonly #history: History;
  readonly #known: Knowledge;
  readonly #checks: Checks;
  readonly #keyOfId = new Map<number, string>();

  constructor(history: History, known: Knowledge, checks: Checks) {
    this.#history = history;
    this.#known = known;
    this.#checks = checks;
    for (const { key, create } of known.posts.values())
      if (create.postId !== undefined) this.#keyOfId.set(create.postId, key);
  }

  run(): void {
    const byUser = Map.groupBy(this.#history.received, ({ user }) => user);
    for (const [user, frames] of byUser) {
      const keys = this.#checkFrames(user, frames);
      this.#checkHellos(user, frames);
      this.#checkArrived(user, frames, keys);
      for (const session of Map.groupBy(frames, (one) => one.session).values())
        this.#checkTexts(user, session);
      this.#checkChanges(user, frames);
    }
  }

  /** Returns the keys of the posts that came. */
  #checkFrames(user: number, frames: readonly Received[]): Set<string> {
    const { add, shown, text } = this.#checks;
    const keys = new Set<string>();
    for (const { kind, item, at, opened, postId, ...times } of frames) {
      const sent = this.#history.framesHeld ? Number.NEGATIVE_INFINITY : times.sent;
      if (kind === 'deleted') this.#checkDeletion(user, postId, at);
      if (!item) continue;
      const created = this.#known.posts.get(keyOf(item.text))?.create.start ?? opened;
      const from = Math.max(opened, created, sent);
      const checked = Math.max(opened, created, sent - CHECKED_MS);
      const post = shown('socket', user, item, from, at, checked);
      if (!post) continue;
      const about = { key: post.key, other: post.author };
      text('socket', user, item, post, [checked, at]);
      if (kind !== 'post') continue;
      if (post.author === user) add('stranger', user, `socket: the own post ${post.key}`);
      if (keys.has(post.key)) add('duplicate', user, `socket: ${post.key} twice`, about);
      keys.add(post.key);
    }
    return keys;
  }

  #checkDeletion(user: number, postId: number | undefined, at: number): void {
    const key = this.#keyOfId.get(postId ?? 0);
    const post = key === undefined ? undefined : this.#known.posts.get(key);
    if (!post || this.#known.exists(post, at, at) !== 'yes') return;
    const about = { key: post.key, other: post.author };
    this.#checks.add('false deletion', user, `socket: ${post.key} was not deleted`, about);
  }

  /** A client that has missed few posts gets them, unless its cursor is of a time that has not come. */
  #checkHellos(user: number, frames: readonly Received[]): void {
    const { clocksWrong, operations } = this.#history;
    if (clocksWrong || operations.filter((one) => one.do === 'create').length > RESUMED_POSTS) return;
    for (const { recovered, session } of frames)
      if (recovered === false) this.#checks.add('gap', user, `socket: session ${session} has a gap`);
  }

  /** A client that stays connected, and resumes, gets all posts since its first session. */
  #checkArrived(user: number, frames: readonly Received[], keys: ReadonlySet<string>): void {
    const since = frames.find(({ kind }) => kind === 'hello')?.at ?? Number.POSITIVE_INFINITY;
    const end = Number.POSITIVE_INFINITY;
    for (const post of this.#known.posts.values()) {
      if (post.author === user || keys.has(post.key)) continue;
      const { start, end: created } = post.create;
      if (start < since || this.#known.exists(post, created + 1, end) !== 'yes') continue;
      // The gateway has said that it does not send what was missed before.
      const gap = frames.find(({ recovered, at }) => recovered === false && at > start);
      if (gap && !this.#wasDue(user, post, frames, gap)) continue;
      if (this.#known.follows(user, post.author, start, end) === 'yes')
        this.#checks.add('lost', user, `socket: no ${post.key} of ${post.author}`, {
          key: post.key,
          other: post.author,
        });
    }
  }

  /**
   * Returns whether a post had to come before a gap. A session that resumed gets what its feed had when it
   * was opened, and only then newer posts.
   */
  #wasDue(user: number, post: Post, frames: readonly Received[], gap: Received): boolean {
    const seen = this.#history.operations.find(
      (one) =>
        one.do === 'read' &&
        one.user === user &&
        !one.degraded &&
        one.items.some(({ text }) => keyOf(text) === post.key),
    );
    if (!seen) return false;
    const resumed = frames.filter(
      ({ kind, recovered, opened, at }) =>
        kind === 'hello' && recovered !== false && opened > seen.end && at < gap.at,
    );
    return resumed.some((hello) =>
      frames.some(({ kind, item, session, at }) => {
        if (kind !== 'post' || session !== hello.session || at > gap.at) return false;
        return (this.#known.posts.get(keyOf(item!.text))?.create.start ?? 0) > hello.at;
      }),
    );
  }

  /** No frame of a session has an older text of a post than an earlier one. */
  #checkTexts(user: number, frames: readonly Received[]): void {
    const newest = new Map<string, number>();
    for (const { item } of frames) {
      const post = item && this.#known.posts.get(keyOf(item.text));
      if (!post) continue;
      const place = placeOf(post, item.text);
      const before = newest.get(post.key) ?? -1;
      const edit = post.texts[place - 1];
      // An attempt without an answer may have happened after the later edit.
      const mayBeLate = edit !== undefined && edit.settled > edit.end;
      if (place < before && !mayBeLate)
        this.#checks.add('text', user, `socket: "${item.text}" after a later text`, {
          key: post.key,
          other: post.author,
        });
      newest.set(post.key, Math.max(before, place));
    }
  }

  /**
   * Edits and deletions since the last checkpoint reach all followers whose session was open before. Earlier
   * ones may be lost with live updates that a fault has cost a gateway.
   */
  #checkChanges(user: number, frames: readonly Received[]): void {
    const since = this.#known.checkpoints.at(-1)?.at ?? Number.POSITIVE_INFINITY;
    const hello = frames.findLast(({ kind }) => kind === 'hello');
    if (!hello) return;
    const last = frames.filter(({ session }) => session === hello.session);
    const end = Number.POSITIVE_INFINITY;
    for (const one of this.#history.operations) {
      if ((one.do !== 'edit' && one.do !== 'delete') || one.outcome !== 'ok') continue;
      if (one.start < since || one.start < hello.at || one.user === user) continue;
      const post = this.#known.posts.get(one.key);
      if (!post || this.#known.follows(user, post.author, one.start, end) !== 'yes') continue;
      const isTold =
        one.do === 'delete'
          ? last.some(({ kind, postId }) => kind === 'deleted' && postId === post.create.postId)
          : this.#known.exists(post, one.start, end) !== 'yes' ||
            last.some(
              ({ item }) =>
                item && keyOf(item.text) === post.key && placeOf(post, item.text) >= placeOf(post, one.text),
            );
      if (!isTold)
        this.#checks.add('untold', user, `socket: no frame of the ${one.do} of ${post.key}`, {
          key: post.key,
          other: post.author,
        });
    }
  }
}

/** Returns the place of a text among those of a post: 0 is the first. */
const placeOf = (post: Post, text: string): number => post.texts.findIndex(({ to }) => to === text) + 1;
