import type { Database } from '../database/database.ts';
import { type CelebrityRule, celebrityChange } from '../model/celebrity.ts';
import type { CelebrityDirection } from './change.ts';
import {
  type CelebrityCandidate,
  celebrityCandidates,
  countUsers,
  feedTable,
  type MergedAuthors,
  mergedAuthors,
  postsADay,
  postsForFeeds,
  storedRows,
} from './costs.ts';

/** Change of one author. A mark saves the rows and bytes, an unmark costs them. */
export interface AuthorChange extends CelebrityCandidate {
  readonly action: CelebrityDirection;
  readonly postsADay: number;
  /** Feed rows that fan-out writes for this author per day. */
  readonly rowsADay: number;
  /** A mark: rows that are in feeds now. An unmark: maximum rows that would be. */
  readonly rows: number;
  readonly bytes: number;
}

export interface Evaluation extends CelebrityRule {
  /** Days whose posts were counted. */
  readonly days: number;
  readonly users: number;
  readonly celebrities: { readonly now: number; readonly after: number };
  /** Most followers first. */
  readonly changes: readonly AuthorChange[];
  /** Authors who were marked or unmarked by hand, and so do not change. */
  readonly pinned: readonly (CelebrityCandidate & { readonly wouldBe: CelebrityDirection })[];
  readonly total: {
    readonly marks: number;
    readonly unmarks: number;
    /** Saved rows. Negative: additional rows. */
    readonly rowsADay: number;
    readonly rows: number;
    readonly bytes: number;
  };
  /** Cost of reads: authors whose posts are looked up and merged, in addition to the feed itself. */
  readonly reads: {
    /** Mean lookups if each feed is read once. */
    readonly lookupsARead: { readonly now: number; readonly after: number };
    /** Feeds that would merge more authors. */
    readonly more: MergedAuthors;
    /** Feeds that would merge fewer authors. */
    readonly fewer: MergedAuthors;
  };
}

/** Returns the authors whom the rule changes now. */
export async function plannedChanges(
  db: Database,
  rule: CelebrityRule,
): Promise<{
  candidates: CelebrityCandidate[];
  changes: (CelebrityCandidate & { action: CelebrityDirection })[];
  pinned: Evaluation['pinned'];
}> {
  const candidates = await celebrityCandidates(db, rule.threshold);
  const concerned = candidates.flatMap((author) => {
    const action = celebrityChange(author, rule);
    return action ? [{ ...author, action }] : [];
  });
  return {
    candidates,
    changes: concerned.filter(({ pinned }) => !pinned),
    pinned: concerned
      .filter(({ pinned }) => pinned)
      .map(({ action, ...author }) => ({ ...author, wouldBe: action })),
  };
}

/** Returns what a rule would change, and its savings and costs. A few statements, none per author. */
export async function evaluateCelebrities(
  db: Database,
  rule: CelebrityRule,
  days: number,
): Promise<Evaluation> {
  const { candidates, changes, pinned } = await plannedChanges(db, rule);
  const idsOf = (action: CelebrityDirection) =>
    changes.flatMap((author) => (author.action === action ? [author.userId] : []));
  const [marks, unmarks] = [idsOf('mark'), idsOf('unmark')];
  // Authors in state `both` are merged already.
  const newcomers = changes.flatMap(({ userId, action, state }) =>
    action === 'mark' && state === 'push' ? [userId] : [],
  );
  const table = await feedTable(db);
  const [rates, posts, stored, more, fewer, users] = await Promise.all([
    postsADay(db, [...marks, ...unmarks], days),
    postsForFeeds(db, unmarks),
    marks.length > 0 ? storedRows(db, marks, table) : new Map<number, number>(),
    mergedAuthors(db, newcomers),
    mergedAuthors(db, unmarks),
    countUsers(db),
  ]);
  const costed = changes.map((author): AuthorChange => {
    const { userId, followers, action } = author;
    const rate = rates.get(userId) ?? 0;
    const rows = action === 'mark' ? (stored.get(userId) ?? 0) : followers * (posts.get(userId) ?? 0);
    return {
      ...author,
      postsADay: round(rate),
      rowsADay: Math.round(rate * followers),
      rows,
      bytes: Math.round(rows * table.bytesARow),
    };
  });
  const saved = (of: (author: AuthorChange) => number) =>
    costed.reduce((sum, author) => sum + (author.action === 'mark' ? of(author) : -of(author)), 0);
  const merged = candidates.filter(({ state }) => state !== 'push');
  const lookups = merged.reduce((sum, { followers }) => sum + followers, 0);
  const after = lookups + more.mean * more.feeds - fewer.mean * fewer.feeds;
  const aRead = (pairs: number) => round(pairs / Math.max(1, users));
  return {
    ...rule,
    days,
    users,
    celebrities: { now: merged.length, after: merged.length + newcomers.length - unmarks.length },
    changes: costed,
    pinned,
    total: {
      marks: marks.length,
      unmarks: unmarks.length,
      rowsADay: saved(({ rowsADay }) => rowsADay),
      rows: saved(({ rows }) => rows),
      bytes: saved(({ bytes }) => bytes),
    },
    reads: {
      lookupsARead: { now: aRead(lookups), after: aRead(after) },
      more: { ...more, mean: round(more.mean) },
      fewer: { ...fewer, mean: round(fewer.mean) },
    },
  };
}

const round = (value: number): number => Math.round(value * 1_000) / 1_000;
