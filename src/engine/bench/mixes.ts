import type { Pair } from '../imports/followGraph.ts';
import { randomSource } from '../imports/generate.ts';

/** The posts of a benchmark and the followers of their authors. */
export interface Mix {
  readonly name: string;
  /** Followers of each author; author n is user n. */
  readonly authors: readonly number[];
  /** Author of each post, in the order of posting. */
  readonly posts: readonly number[];
  /** Users who are no authors: followers are drawn from these. */
  readonly readers: number;
  readonly deliveries: number;
}

/** Posts of one author in a uniform mix. */
const POSTS_AN_AUTHOR = 20;
const MIN_READERS = 20_000;
const CHUNK = 10_000;

/**
 * Followers of the author of a post in the Higgs data: cumulative share of the posts, and the number
 * of followers at that share, linear in between. Computed from its 561,757 posts by authors with at
 * most 500 followers.
 */
const HIGGS_FOLLOWERS: readonly (readonly [share: number, followers: number])[] = [
  [0.747, 0],
  [0.852, 1],
  [0.891, 2],
  [0.925, 5],
  [0.95, 8],
  [0.97, 16],
  [0.98, 32],
  [0.99, 78],
  [0.995, 157],
  [0.999, 315],
  [1, 493],
];

const mix = (
  name: string,
  authors: readonly number[],
  posts: readonly number[],
  minReaders = MIN_READERS,
): Mix => ({
  name,
  authors,
  posts,
  readers: authors.reduce((most, followers) => Math.max(most, followers), minReaders),
  deliveries: posts.reduce((sum, author) => sum + authors[author - 1]!, 0),
});

/** Every author has the same number of followers. */
export function uniformMix(posts: number, followers: number, minReaders?: number): Mix {
  const authors = Array.from({ length: Math.ceil(posts / POSTS_AN_AUTHOR) }, () => followers);
  const order = Array.from({ length: posts }, (_, i) => 1 + (i % authors.length));
  return mix(`${followers} followers`, authors, order, minReaders);
}

/** Authors with as many followers as those of the Higgs data: 3 of 4 posts have none, a few have hundreds. */
export function higgsMix(posts: number, minReaders?: number): Mix {
  const random = randomSource(2);
  const authors = Array.from({ length: posts }, () => {
    const share = random();
    const at = HIGGS_FOLLOWERS.findIndex(([upTo]) => share < upTo);
    const [high, most] = HIGGS_FOLLOWERS[at]!;
    const [low, least] = HIGGS_FOLLOWERS[at - 1] ?? [0, 0];
    return Math.round(least + ((share - low) / (high - low)) * (most - least));
  });
  return mix(
    'higgs',
    authors,
    authors.map((_, i) => i + 1),
    minReaders,
  );
}

/** The follows of a mix, author by author. A pair of a reader with itself only makes the user. */
export async function* mixPairs({ authors, readers }: Mix): AsyncGenerator<Pair[]> {
  const random = randomSource(1);
  const first = authors.length + 1;
  for (let from = first; from < first + readers; from += CHUNK)
    yield Array.from(
      { length: Math.min(CHUNK, first + readers - from) },
      (_, n): Pair => [from + n, from + n],
    );
  for (const [i, count] of authors.entries()) {
    const author = i + 1;
    if (count * 2 > readers) {
      yield Array.from({ length: count }, (_, n): Pair => [first + n, author]);
      continue;
    }
    const followers = new Set<number>();
    while (followers.size < count) followers.add(first + Math.floor(random() * readers));
    yield [...followers].map((follower): Pair => [follower, author]);
  }
}
