import { FeedctlError } from '../model/errors.ts';
import { IMPORTS_PER_SECOND, importedId } from '../model/ids.ts';
import type { SocialContext } from '../social/context.ts';
import { type Pair, type SeedOptions, type SeedResult, seedPairs } from './followGraph.ts';
import { ImportTally } from './partitions.ts';
import { type ImportOptions, type ImportResult, importAll, type NewPost, type PostSource } from './posts.ts';
import { checkImport } from './sql.ts';

/** Exponent of popularity: the weight of rank r is r to the power of minus this. */
const POPULARITY_EXPONENT = 0.75;
/** Exponent of the number of follows per user, as a Pareto density. */
const FOLLOWS_EXPONENT = 2.2;
/**
 * End of the 30 days that hold the posts. It is fixed, because the same seed must give the same
 * ids.
 */
const LAST_SECOND = Date.UTC(2025, 0, 1) / 1000;
const DAYS = 30;
const USERS_PER_CHUNK = 500;
const POSTS_PER_BATCH = 4_000;
const WORDS =
  'feeds flow where people meet and every morning brings some news worth sharing with all who follow'.split(
    ' ',
  );

export interface GenerateOptions {
  readonly users: number;
  /** Minimum and maximum number of follows per user. */
  readonly follows: readonly [number, number];
  /** Minimum and maximum number of posts per user. */
  readonly posts: readonly [number, number];
  readonly seed: number;
}

/** mulberry32, by Tommy Ettinger: 32 bits of state, uniform in [0, 1). */
export function randomSource(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Throws USAGE. */
export function checkGenerateOptions(options: GenerateOptions): void {
  const [, mostFollows] = options.follows;
  for (const [name, [from, to]] of Object.entries({ follows: options.follows, posts: options.posts })) {
    if (!(from >= 0 && from <= to))
      throw new FeedctlError('USAGE', `--${name} ${from}-${to}: ${from} is more than ${to}`);
  }
  if (mostFollows >= options.users) {
    throw new FeedctlError('USAGE', `${options.users} users cannot follow ${mostFollows} others each`);
  }
}

const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));

/** Spreads popularity ranks over the ids 1 to n, so that popular users are not the first ones. */
function shuffledIds(users: number): (rank: number) => number {
  let step = Math.floor(users * 0.618) | 1;
  while (gcd(step, users) !== 1) step += 2;
  return (rank) => 1 + ((rank * step + (users >> 1)) % users);
}

/** Yields follows: most users follow few, some follow many, and few are followed by very many. */
async function* pairs({ users, follows: [least, most], seed }: GenerateOptions): AsyncGenerator<Pair[]> {
  const random = randomSource(seed);
  const idOfRank = shuffledIds(users);
  const exponent = 1 - POPULARITY_EXPONENT;
  const span = users ** exponent;
  const pick = () => idOfRank(Math.min(users - 1, Math.floor((random() * span) ** (1 / exponent))));
  const low = Math.max(1, least) ** (1 - FOLLOWS_EXPONENT);
  const high = Math.max(1, most) ** (1 - FOLLOWS_EXPONENT);
  let chunk: Pair[] = [];
  for (let user = 1; user <= users; user += 1) {
    const wanted = Math.min(
      most,
      Math.floor((low - random() * (low - high)) ** (1 / (1 - FOLLOWS_EXPONENT))),
    );
    const count = least === 0 && most === 0 ? 0 : Math.max(least, wanted);
    const followees = new Set<number>([user]);
    chunk.push([user, user]);
    // Popular accounts are picked repeatedly. After enough misses the next ids are used.
    for (let tries = 0; followees.size <= count && tries < count * 20; tries += 1) followees.add(pick());
    for (let next = user; followees.size <= count; next += 1) followees.add(1 + (next % users));
    for (const followee of followees) if (followee !== user) chunk.push([user, followee]);
    if (user % USERS_PER_CHUNK === 0) {
      yield chunk;
      chunk = [];
    }
  }
  yield chunk;
}

/** Returns each user's posts at random seconds of the 30 days, ordered by time. */
function postSource(options: GenerateOptions): PostSource {
  const {
    users,
    posts: [least, most],
    follows,
    seed,
  } = options;
  const random = randomSource(seed ^ 0x5bd1e995);
  const seconds = DAYS * 86_400;
  const authors: number[] = [];
  for (let user = 1; user <= users; user += 1) {
    const count = least + Math.floor(random() * (most - least + 1));
    for (let post = 0; post < count; post += 1) authors.push(user);
  }
  const times = Uint32Array.from(authors, () => Math.floor(random() * seconds));
  const order = Uint32Array.from(authors, (_, i) => i).sort((a, b) => times[a]! - times[b]! || a - b);
  const firstSecond = LAST_SECOND - seconds;
  const tally = new ImportTally();
  for (const [i, author] of authors.entries()) tally.add(author, firstSecond + times[i]!);

  async function* batches(skip: number): AsyncGenerator<NewPost[]> {
    let batch: NewPost[] = [];
    let rank = 0;
    let previous = -1;
    for (let i = 0; i < order.length; i += 1) {
      const index = order[i]!;
      const time = times[index]!;
      rank = time === previous ? rank + 1 : 0;
      previous = time;
      if (rank === IMPORTS_PER_SECOND) throw new FeedctlError('USAGE', 'too many posts for 30 days');
      if (i < skip) continue;
      const second = firstSecond + time;
      const body = Array.from(
        { length: 6 },
        (_, word) => WORDS[(index * 7 + word * 3 + (index >> 3)) % WORDS.length],
      ).join(' ');
      batch.push({
        id: importedId(second, rank),
        authorId: authors[index]!,
        body,
        createdAtMs: second * 1000,
      });
      if (batch.length === POSTS_PER_BATCH) {
        yield batch;
        batch = [];
      }
    }
    if (batch.length > 0) yield batch;
  }
  const key = `generate users=${users} follows=${follows.join('-')} posts=${least}-${most} seed=${seed}`;
  return { kind: 'generate', key, firstSecond, lastSecond: LAST_SECOND, tally, batches };
}

/**
 * Generates a graph and its posts. The same seed gives the same users, follows, posts and ids.
 * Creates missing users of 1 to n. Throws USAGE, and errors of seeding and importing.
 */
export async function generate(
  context: SocialContext,
  options: GenerateOptions,
  seedOptions: SeedOptions,
  importOptions: ImportOptions,
): Promise<{ graph: SeedResult; posts: ImportResult | undefined }> {
  checkGenerateOptions(options);
  const source = postSource(options);
  const { key: digest, firstSecond, lastSecond } = source;
  // The check precedes the follows, because they are useless without their posts.
  if (source.tally.posts > 0) await checkImport(context.db, { digest, firstSecond, lastSecond });
  const graph = await seedPairs(context, pairs(options), seedOptions);
  const posts = seedOptions.dryRun ? undefined : await importAll(context, source, importOptions);
  return { graph, posts };
}
