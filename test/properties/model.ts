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
  /** When it began last. */
  since: number;
  /** When it ended last. */
  lostAt: number;
  now: boolean;
}

/**
 * What the cluster is for, without any of its means: who follows whom, and who wrote what. A feed is what its
 * reader may see, newest first. Times are counted in changes.
 */
export class Model {
  clock = 0;
  readonly posts = new Map<number, ModelPost>();
  readonly #follows = new Map<string, ModelFollow>();
  /** Posts by reader that have arrived: from then on no read may miss them. */
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

  /** Nothing is under way any more: everything has arrived. */
  settle(readers: readonly number[]): void {
    for (const reader of readers) for (const post of this.feed(reader)) this.#arrivedFor(reader).add(post.id);
  }

  /** Newest first. */
  feed(reader: number): ModelPost[] {
    return [...this.posts.values()]
      .filter((post) => this.wasVisibleSince(reader, post.id, this.clock))
      .sort((a, b) => b.id - a.id);
  }

  followers(author: number, readers: readonly number[]): number {
    return readers.filter((reader) => this.#pair(reader, author)?.now).length;
  }

  /** Whether the reader might have been shown the post at any time since. */
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

  /** Of posts that had arrived: those whose author was followed ever since, and that are not deleted. */
  wasThereSince(reader: number, postId: number, since: number): boolean {
    const post = this.posts.get(postId)!;
    if (post.deletedAt !== undefined) return false;
    if (post.authorId === reader) return true;
    const follow = this.#pair(reader, post.authorId);
    return follow?.now === true && follow.since <= since;
  }

  /** Posts that a socket of the reader has to have got if it was open from `connectedAt` to now. */
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
