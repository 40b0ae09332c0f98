import type { Pair } from '../../src/engine/store/follows.ts';

interface ModelPost {
  readonly id: number;
  readonly authorId: number;
  readonly createdAt: number;
  text: string;
  updatedAt: number;
  deletedAt: number | undefined;
}

interface ModelFollow {
  /** Time of the last beginning. */
  since: number;
  /** Time of the last end. */
  lostAt: number;
  now: boolean;
}

/**
 * The naive model of the cluster: follows and posts only. A feed is the posts that its reader may see,
 * newest first. Time is the number of changes.
 */
export class Model {
  clock = 0;
  readonly posts = new Map<number, ModelPost>();
  readonly #follows = new Map<string, ModelFollow>();
  /** Arrived posts by reader: no later read may miss them. */
  readonly #arrived = new Map<number, Set<number>>();

  follow(pair: Pair): void {
    this.clock += 1;
    const before = this.#pair(pair.followerId, pair.followeeId);
    if (before?.now) return;
    this.#follows.set(key(pair.followerId, pair.followeeId), {
      since: this.clock,
      lostAt: before?.lostAt ?? -1,
      now: true,
    });
  }

  unfollow(pair: Pair): void {
    this.clock += 1;
    const follow = this.#pair(pair.followerId, pair.followeeId);
    if (!follow?.now) return;
    follow.now = false;
    follow.lostAt = this.clock;
    const arrived = this.#arrived.get(pair.followerId);
    for (const id of arrived ?? []) {
      if (this.posts.get(id)!.authorId === pair.followeeId) arrived!.delete(id);
    }
  }

  post(id: number, authorId: number, text: string): void {
    this.clock += 1;
    this.posts.set(id, {
      id,
      authorId,
      text,
      createdAt: this.clock,
      updatedAt: this.clock,
      deletedAt: undefined,
    });
    this.#arrivedFor(authorId).add(id);
  }

  update(id: number, text: string): void {
    this.clock += 1;
    const post = this.posts.get(id)!;
    post.text = text;
    post.updatedAt = this.clock;
  }

  delete(id: number): void {
    this.clock += 1;
    this.posts.get(id)!.deletedAt = this.clock;
    for (const arrived of this.#arrived.values()) arrived.delete(id);
  }

  /** Marks all posts as arrived. */
  settle(readers: readonly number[]): void {
    for (const reader of readers) for (const post of this.feed(reader)) this.#arrivedFor(reader).add(post.id);
  }

  /** Returns the feed, newest first. */
  feed(reader: number): ModelPost[] {
    return [...this.posts.values()]
      .filter((post) => this.wasVisibleSince(reader, post.id, this.clock))
      .sort((a, b) => b.id - a.id);
  }

  followers(author: number, readers: readonly number[]): number {
    return readers.filter((reader) => this.#pair(reader, author)?.now).length;
  }

  /** Returns whether a read at any time since then may show the post. */
  wasVisibleSince(reader: number, postId: number, since: number): boolean {
    const post = this.posts.get(postId);
    if (!post || (post.deletedAt !== undefined && post.deletedAt <= since)) return false;
    if (post.authorId === reader) return true;
    const follow = this.#pair(reader, post.authorId);
    return follow !== undefined && (follow.now || follow.lostAt > since);
  }

  arrived(reader: number): number[] {
    return [...(this.#arrived.get(reader) ?? [])];
  }

  /** Arrived posts that are not deleted and whose author has been followed since then. */
  wasThereSince(reader: number, postId: number, since: number): boolean {
    const post = this.posts.get(postId)!;
    if (post.deletedAt !== undefined) return false;
    if (post.authorId === reader) return true;
    const follow = this.#pair(reader, post.authorId);
    return follow?.now === true && follow.since <= since;
  }

  /** Posts that a socket must have received if it has been open since `connectedAt`. */
  pushed(reader: number, connectedAt: number): ModelPost[] {
    return this.feed(reader).filter(
      (post) =>
        post.authorId !== reader &&
        post.createdAt > connectedAt &&
        this.#pair(reader, post.authorId)!.since < post.createdAt,
    );
  }

  #pair(reader: number, author: number): ModelFollow | undefined {
    return this.#follows.get(key(reader, author));
  }

  #arrivedFor(reader: number): Set<number> {
    const arrived = this.#arrived.get(reader) ?? new Set();
    this.#arrived.set(reader, arrived);
    return arrived;
  }
}

const key = (reader: number, author: number): string => `${reader} ${author}`;
