import { FeedctlError, isFeedctlError, messageOf } from '../../model/errors.ts';
import { withTimeout } from '../../util/deadline.ts';

/** What was asked takes at most this share of the time: whatever is slow is asked more seldom. */
const MAX_SHARE = 0.05;
const EARLY_MS = 50;
const UNREACHED: ReadonlySet<string> = new Set(['DATABASE_UNREACHABLE', 'BROKER_UNREACHABLE']);

/** How one source of a snapshot is doing. */
export interface SourceState {
  readonly name: string;
  /** Since the answer that is shown; null where there was none yet. */
  readonly ageMs: number | null;
  /** How long that answer took; as a share of the time it is at most 5%. */
  readonly tookMs: number | null;
  /** Until it is asked again, from one asking to the next. */
  readonly everyMs: number;
  /** Why there has been no answer since, and for how long. */
  readonly error: { readonly code: string; readonly message: string; readonly forMs: number } | null;
}

/** `begin`: what was before, such as connecting, is no work that the answer makes. */
type Ask<T> = (begin: () => void) => Promise<T>;

/**
 * Something that is asked again and again, never twice at a time, with a deadline, and no more often than it can bear: after
 * what took a while, answered or not, 20 times as long passes until the next. What was known stays known while it fails.
 */
export class Source<T> {
  readonly name: string;
  readonly #ask: Ask<T>;
  readonly #everyMs: number;
  readonly #deadlineMs: number;
  readonly #mostShare: number;
  readonly #now: () => number;
  #value: T | undefined;
  #answeredAt: number | undefined;
  #tookMs: number | null = null;
  #error: { code: string; message: string; since: number } | null = null;
  #askedAt = Number.NEGATIVE_INFINITY;
  /** What the last asking may cost: so long passes from it to the next. */
  #restMs = 0;
  #atLeastMs = 0;
  #asking: Promise<void> | undefined;

  /** `mostShare`: less than the 5% of all; `now`: milliseconds of a clock that only goes forward. */
  constructor(
    name: string,
    options: { everyMs: number; deadlineMs: number; mostShare?: number; now?: () => number },
    ask: Ask<T>,
  ) {
    this.name = name;
    this.#ask = ask;
    this.#everyMs = options.everyMs;
    this.#deadlineMs = options.deadlineMs;
    this.#mostShare = options.mostShare ?? MAX_SHARE;
    this.#now = options.now ?? (() => performance.now());
  }

  get value(): T | undefined {
    return this.#value;
  }

  get error(): { code: string; message: string } | null {
    return this.#error;
  }

  get #pauseMs(): number {
    // Who could not be reached is tried as often as anybody looks: it is the first to be known again.
    const everyMs = this.#unreached ? 0 : this.#everyMs;
    return Math.max(this.#atLeastMs, everyMs, this.#restMs);
  }

  get #unreached(): boolean {
    return this.#error !== null && UNREACHED.has(this.#error.code);
  }

  /** Asks if it is time; resolves when there is an answer, or the deadline has passed. `atLeastMs`: what a viewer wants at most, from now on. */
  refresh(atLeastMs = 0): Promise<void> {
    this.#atLeastMs = atLeastMs;
    if (this.#asking) return this.#asking;
    const startedAt = this.#now();
    // Asked by a timer of the same length, which may come a little early.
    if (startedAt < this.#askedAt + this.#pauseMs - EARLY_MS) return Promise.resolve();
    this.#askedAt = startedAt;
    const late = () => new FeedctlError('TIMED_OUT', `no answer within ${this.#deadlineMs / 1_000} s`);
    let begunAt = startedAt;
    const asked = this.#ask(() => {
      begunAt = this.#now();
    });
    // What answers after its deadline is of no use, and is still what the next asking waits for.
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
        // Who could not be reached has had no work of it.
        this.#restMs = this.#unreached ? 2 * took : took / this.#mostShare;
      });
    this.#asking = answered;
    void Promise.all([answered, settled]).then(() => {
      this.#asking = undefined;
    });
    return answered;
  }

  /** Asks whether it is time or not. */
  again(): Promise<void> {
    this.#askedAt = Number.NEGATIVE_INFINITY;
    return this.refresh(this.#atLeastMs);
  }

  get state(): SourceState {
    const now = this.#now();
    const round = (ms: number) => Math.round(ms * 10) / 10;
    return {
      name: this.name,
      ageMs: this.#answeredAt === undefined ? null : Math.round(now - this.#answeredAt),
      tookMs: this.#tookMs === null ? null : round(this.#tookMs),
      everyMs: Math.round(this.#pauseMs),
      error: this.#error && {
        code: this.#error.code,
        message: this.#error.message,
        forMs: Math.round(now - this.#error.since),
      },
    };
  }
}
