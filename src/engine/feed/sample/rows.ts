import type { Bus } from '../../bus/bus.ts';
import { messagesIn } from '../../bus/depths.ts';
import { DrainWatch } from '../../bus/drainWatch.ts';
import type { Database } from '../../database/database.ts';
import { firstIdAt } from '../../model/ids.ts';
import type { Mismatch } from '../../model/sample.ts';
import { databaseNow } from '../../store/databaseClock.ts';
import { erasuresOf } from '../../store/erasures.ts';
import { followsSince } from '../../store/follows.ts';
import { activeUsers, type RowsSample, readRowsSample, saveRowsSample } from '../../store/samples.ts';
import { missingUsers, userIdsAfter } from '../../store/users.ts';
import type { Log } from '../../telemetry/log.ts';
import type { Metrics } from '../../telemetry/metrics.ts';
import { lastEventAbout } from '../explain/sql.ts';
import type { DifferingEntry } from '../verify/variant.ts';
import { verifyVariant } from '../verify/variants.ts';

/** Posts that are younger are not looked at: nearly all of them are on their way. */
const MIN_AGE_MS = 60_000;
const USERS_A_LOOK = 20;
/** Feeds that differ and wait for messages in flight. More are found again at a later look. */
const MAX_CANDIDATES = 200;
/** Feeds that are known to differ. Each of them costs one statement a look. */
const MAX_KNOWN = 50;
/**
 * A cleanup that is still queued after so many drains has not been held up by a lane: the drains have
 * passed both of them.
 */
const MAX_CLEANUP_DRAINS = 20;
const ERASED_SECONDS = 3_600;

export interface RowsContext {
  readonly db: Database;
  readonly bus: Bus;
  readonly log: Log;
  readonly metrics?: Metrics | undefined;
}

export interface RowsOptions {
  readonly minAgeMs?: number | undefined;
  readonly users?: number | undefined;
  readonly barrierLostMs?: number | undefined;
}

/** A feed that differed at one look. */
interface Candidate {
  readonly userId: number;
  /** The differing entries of that look. */
  readonly entries: readonly DifferingEntry[];
  /** Time of that look, in unix milliseconds of the database. */
  readonly atMs: number;
  /** Greatest post id of that look. */
  readonly upTo: number;
  /** Drains that it has waited for. */
  readonly drains: number;
}

/** Candidates that wait until everything that was in flight after their look has been handled. */
interface Waiting {
  readonly candidates: readonly Candidate[];
  readonly drain: DrainWatch;
  drained: boolean;
}

/**
 * Compares the rows of sampled feeds with follows and posts. A feed that differs is compared again when
 * the outbox, each stage of the bus and the cleanups of unfollows are done with all that was in flight at
 * the first look, and only differences of both looks are reported. So neither a backlog nor a paused lane
 * is a mismatch. Progress and result are in the database: any worker continues.
 */
export class RowsSampler {
  readonly #context: RowsContext;
  readonly #options: RowsOptions;
  #found: Candidate[] = [];
  #waiting: Waiting | undefined;

  constructor(context: RowsContext, options: RowsOptions = {}) {
    this.#context = context;
    this.#options = options;
  }

  /** Looks once. Returns the users that it has looked at. */
  async look(): Promise<number[]> {
    const { db, metrics } = this.#context;
    const before = await readRowsSample(db);
    const atMs = Math.floor(await databaseNow(db));
    const still = await this.#stillDiffering(before.differing);
    const confirmed = await this.#confirm();
    const chosen = await this.#choose(before);
    const known = [...still, ...confirmed];
    await this.#compare(chosen.ids, atMs, new Set(known.map(({ userId }) => userId)));
    await this.#drain();
    for (const { kind } of known) metrics?.count('feedctl_sampled_mismatches_total', 1, { kind });
    metrics?.count('feedctl_sampled_feeds_total', chosen.ids.length);
    const last = confirmed.at(-1) ?? before.last;
    // An erasure removes the user's row long before it removes the user from this result.
    const erased = new Set(
      await missingUsers(
        db,
        [...known, ...(last ? [last] : [])].map((one) => one.userId),
      ),
    );
    await saveRowsSample(db, {
      at: new Date(atMs).toISOString(),
      walked: chosen.walked,
      online: chosen.online,
      checked: before.checked + chosen.ids.length,
      waiting: this.#found.length + (this.#waiting?.candidates.length ?? 0),
      differing: known.filter(({ userId }) => !erased.has(userId)).slice(0, MAX_KNOWN),
      last: last && !erased.has(last.userId) ? last : null,
    });
    return chosen.ids;
  }

  /** Forgets what this worker has found, because another one looks now. */
  reset(): void {
    this.#found = [];
    this.#waiting = undefined;
  }

  /** One half are users who read now, the other half a pass over all users. */
  async #choose({ walked, online }: RowsSample): Promise<{ ids: number[]; walked: number; online: number }> {
    const { db } = this.#context;
    const { users = USERS_A_LOOK } = this.#options;
    const active = await activeUsers(db, online, Math.floor(users / 2));
    const limit = users - active.ids.length;
    const next = await userIdsAfter(db, walked, limit);
    const all = next.length < limit ? [...next, ...(await userIdsAfter(db, 0, limit - next.length))] : next;
    return {
      ids: [...new Set([...active.ids, ...all])],
      walked: all.at(-1) ?? 0,
      online: active.online,
    };
  }

  async #compare(userIds: readonly number[], atMs: number, known: ReadonlySet<number>): Promise<void> {
    const { db } = this.#context;
    const { minAgeMs = MIN_AGE_MS } = this.#options;
    const upTo = firstIdAt(atMs - minAgeMs);
    const waits = new Set([...this.#found, ...(this.#waiting?.candidates ?? [])].map((one) => one.userId));
    const users = userIds.filter((id) => !known.has(id) && !waits.has(id));
    for (const [userId, entries] of byUser(await differingEntries(db, users, upTo)))
      if (waits.size < MAX_CANDIDATES) {
        waits.add(userId);
        this.#found.push({ userId, entries, atMs, upTo, drains: 0 });
      }
  }

  async #drain(): Promise<void> {
    if (!this.#waiting && this.#found.length > 0) {
      const drain = new DrainWatch(this.#context, this.#options.barrierLostMs);
      this.#waiting = { candidates: this.#found, drain, drained: false };
      this.#found = [];
    }
    if (this.#waiting && !this.#waiting.drained) this.#waiting.drained = await this.#waiting.drain.passed();
  }

  /** Compares the feeds whose drain was done at the last look. Returns what still differs. */
  async #confirm(): Promise<Mismatch[]> {
    const waiting = this.#waiting;
    if (!waiting?.drained) return [];
    const { db, bus, log } = this.#context;
    const confirmed: Mismatch[] = [];
    const strangers = waiting.candidates.some(({ entries }) => entries.some(isStranger));
    const depths = strangers ? await bus.depths() : [];
    const cleaned = depths.every((depth) => depth.queue !== 'cleanup' || messagesIn(depth) === 0);
    for (const [upTo, candidates] of Map.groupBy(waiting.candidates, (one) => one.upTo)) {
      const userIds = candidates.map(({ userId }) => userId);
      const now = byUser(await differingEntries(db, userIds, upTo));
      for (const candidate of candidates) {
        const first = new Set(candidate.entries.map(keyOf));
        const both = (now.get(candidate.userId) ?? []).filter((entry) => first.has(keyOf(entry)));
        const { faults, uncleaned } = await this.#explained(candidate, both, cleaned);
        confirmed.push(...faults);
        if (faults.length === 0 && uncleaned)
          this.#found.push({ ...candidate, entries: both, drains: candidate.drains + 1 });
      }
    }
    this.#waiting = undefined;
    for (const { userId, kind, postId } of confirmed)
      log.error({ userId, kind, postId }, 'a feed differs from follows and posts');
    return confirmed;
  }

  /**
   * Returns one mismatch of each kind that no later event explains. `uncleaned`: rows of an unfollowed
   * author are left, whose removal may be queued.
   */
  async #explained(
    { userId, atMs, drains }: Candidate,
    entries: readonly DifferingEntry[],
    cleaned: boolean,
  ): Promise<{ faults: Mismatch[]; uncleaned: boolean }> {
    const at = new Date().toISOString();
    const faults: Mismatch[] = [];
    let uncleaned = false;
    const missing = entries.filter((entry) => !isStranger(entry));
    const lacking = (await this.#followedBefore(missing, atMs))[0];
    if (lacking) faults.push({ userId, kind: 'missing', postId: lacking.postId, at });
    const byAuthor = Map.groupBy(entries.filter(isStranger), ({ authorId }) => authorId);
    for (const [authorId, [row]] of byAuthor) {
      const state = await this.#strangerState({ userId, authorId }, atMs);
      if (state === 'removed soon') continue;
      if (state === 'cleaned up' && !cleaned && drains < MAX_CLEANUP_DRAINS) {
        uncleaned = true;
        continue;
      }
      faults.push({ userId, kind: 'strangers', postId: row!.postId, at });
      break;
    }
    return { faults, uncleaned };
  }

  /** A follow that is not older than the first look explains missing posts: its backfill may be in flight. */
  async #followedBefore(entries: readonly DifferingEntry[], atMs: number): Promise<DifferingEntry[]> {
    if (entries.length === 0) return [];
    const { minAgeMs = MIN_AGE_MS } = this.#options;
    const pairs = entries.map(({ userId, authorId }) => ({ followerId: userId, followeeId: authorId }));
    const later = await followsSince(this.#context.db, pairs, new Date(atMs - minAgeMs));
    const authors = new Set(later.map(({ followeeId }) => followeeId));
    return entries.filter(({ authorId }) => !authors.has(authorId));
  }

  /**
   * Says what will happen to the rows of an author who is not followed. Rows of an unfollow are removed
   * by its cleanup; no event of an unfollow means that nothing removes them.
   */
  async #strangerState(
    { userId, authorId }: { userId: number; authorId: number },
    atMs: number,
  ): Promise<'removed soon' | 'cleaned up' | 'stays'> {
    const { db } = this.#context;
    if ((await erasuresOf(db, ERASED_SECONDS, authorId)).length > 0) return 'removed soon';
    const about = { aggregateId: userId, subjectId: authorId, type: 'follow.deleted' } as const;
    const unfollow = await lastEventAbout(db, about);
    if (!unfollow) return 'stays';
    return unfollow.occurredAt.getTime() >= atMs ? 'removed soon' : 'cleaned up';
  }

  /** Returns the known mismatches whose post still differs. */
  async #stillDiffering(known: readonly Mismatch[]): Promise<Mismatch[]> {
    const still: Mismatch[] = [];
    for (const mismatch of known) {
      const { userId, kind, postId } = mismatch;
      const entries = await differingEntries(this.#context.db, [userId], postId);
      if (entries.some((entry) => entry.kind === kind && entry.postId === postId)) still.push(mismatch);
    }
    return still;
  }
}

const isStranger = ({ kind }: DifferingEntry): boolean => kind === 'strangers';
const keyOf = ({ kind, postId }: DifferingEntry): string => `${kind} ${postId}`;

const byUser = (entries: readonly DifferingEntry[]): Map<number, DifferingEntry[]> =>
  Map.groupBy(entries, ({ userId }) => userId);

async function differingEntries(
  db: Database,
  userIds: readonly number[],
  upTo: number,
): Promise<DifferingEntry[]> {
  if (userIds.length === 0) return [];
  return verifyVariant(await db.sharding()).differingEntries(db, userIds, upTo);
}
