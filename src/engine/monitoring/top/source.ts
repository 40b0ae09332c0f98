import { FeedctlError, isFeedctlError, messageOf } from '../../model/errors.ts';
import { withTimeout } from '../../util/deadline.ts';
import { tenths } from '../../util/numbers.ts';

/** Maximum share of the time that a source is in flight: a slow source is asked less often. */
const MAX_SHARE = 0.05;
/** A timer of the same interval may fire this much early. */
const EARLY_MS = 50;
const UNREACHED: ReadonlySet<string> = new Set(['DATABASE_UNREACHABLE', 'BROKER_UNREACHABLE']);

/** State of one source of a snapshot. */
export interface SourceState {
  readonly name: string;
  /** Age of the answer that is shown; null before the first one. */
  readonly ageMs: number | null;
  /** Duration of that answer; at most 5% of the time. */
  readonly tookMs: number | null;
  /** Interval between two requests, from start to start. */
  readonly everyMs: number;
  /** The error since that answer, and its age; null after a success. */
  readonly error: { readonly code: string; readonly message: string; readonly forMs: number } | null;
}

/** Calls `begin` when the work begins: connecting before it does not count as its duration. */
type Ask<T> = (begin: () => void) => Promise<T>;

/**
 * A source that is asked repeatedly, one request at a time and with a deadline. After a request,
 * which may have failed, 20 times its duration passes until the next. The last answer is kept while
 * requests fail.
 */
export class Source<T> {
  readonly name: string;
  readonly #ask: Ask<T>;
  readonly #everyMs: number;
  readonly #deadlineMs: number;
  readonly #maxShare: number;
  readonly #now: () => number;
  #value: T | undefined;
  #answeredAt: number | undefined;
  #tookMs: number | null = null;
  #error: { code: string; message: string; since: number } | null = null;
  #askedAt = Number.NEGATIVE_INFINITY;
  /** Minimum interval that follows from the duration of the last request. */
  #restMs = 0;
  /** Minimum interval that the viewer has chosen. */
  #viewerMs = 0;
  #inFlight: Promise<void> | undefined;

  /** `maxShare`: default 5%. `now`: a monotonic clock in milliseconds, for tests. */
  constructor(
    name: string,
    options: { everyMs: number; deadlineMs: number; maxShare?: number | undefined; now?: () => number },
    ask: Ask<T>,
  ) {
    this.name = name;
    this.#ask = ask;
    this.#everyMs = options.everyMs;
    this.#deadlineMs = options.deadlineMs;
    this.#maxShare = options.maxShare ?? MAX_SHARE;
    this.#now = options.now ?? (() => performance.now());
  }

  get value(): T | undefined {
    return this.#value;
  }

  get error(): { code: string; message: string } | null {
    return this.#error;
  }

  /** It has been asked at least once. */
  get asked(): boolean {
    return this.#answeredAt !== undefined || this.#error !== null || this.#inFlight !== undefined;
  }

  get #pauseMs(): number {
    // A server that cannot be reached is tried at every refresh, so that its return is seen early.
    const everyMs = this.#unreached ? 0 : this.#everyMs;
    return Math.max(this.#viewerMs, everyMs, this.#restMs);
  }

  get #unreached(): boolean {
    return this.#error !== null && UNREACHED.has(this.#error.code);
  }

  /**
   * Asks if the interval has passed. Resolves at the answer or the deadline. `viewerMs`: minimum
   * interval from now on.
   */
  refresh(viewerMs = 0): Promise<void> {
    this.#viewerMs = viewerMs;
    if (this.#inFlight) return this.#inFlight;
    const startedAt = this.#now();
    if (startedAt < this.#askedAt + this.#pauseMs - EARLY_MS) return Promise.resolve();
    this.#askedAt = startedAt;
    const late = () => new FeedctlError('TIMED_OUT', `no answer within ${this.#deadlineMs / 1_000} s`);
    let begunAt = startedAt;
    const asked = this.#ask(() => {
      begunAt = this.#now();
    });
    // An answer after the deadline is ignored, but the next request waits for it.
    const settled = asked.then(
      () => {},
      () => {},
    );
    const answered = withTimeout(this.#deadlineMs, asked, late)
      .then(
        (value) => {
          this.#value = value;
          this.#answeredAt = this.#now();
          this.#error = null;
        },
        (error: unknown) => {
          const code = isFeedctlError(error) ? error.code : 'INTERNAL';
          this.#error = { code, message: messageOf(error), since: this.#error?.since ?? this.#now() };
        },
      )
      .finally(() => {
        const took = this.#now() - begunAt;
        if (!this.#error) this.#tookMs = took;
        // A server that could not be reached has not worked.
        this.#restMs = this.#unreached ? 2 * took : took / this.#maxShare;
      });
    this.#inFlight = answered;
    void Promise.all([answered, settled]).then(() => {
      this.#inFlight = undefined;
    });
    return answered;
  }

  /** Asks without regard to the interval. */
  refreshNow(): Promise<void> {
    this.#askedAt = Number.NEGATIVE_INFINITY;
    return this.refresh(this.#viewerMs);
  }

  get state(): SourceState {
    const now = this.#now();
    return {
      name: this.name,
      ageMs: this.#answeredAt === undefined ? null : Math.round(now - this.#answeredAt),
      tookMs: this.#tookMs === null ? null : tenths(this.#tookMs),
      everyMs: Math.round(this.#pauseMs),
      error: this.#error && {
        code: this.#error.code,
        message: this.#error.message,
        forMs: Math.round(now - this.#error.since),
      },
    };
  }
}
