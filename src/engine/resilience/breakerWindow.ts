import { CircuitState, type IBreaker } from 'cockatiel';
import { BREAKER } from './limits.ts';

const BUCKETS = 30;
const BUCKET_MS = BREAKER.windowMs / BUCKETS;
const MINUTE_MS = 60_000;

interface Bucket {
  /** Number of its second, by the clock of the window. */
  second: number;
  calls: number;
  failed: number;
  slow: number;
}

/**
 * Opens a circuit after too many failed or slow calls in 30 s, or too many timeouts in a minute.
 */
export class BreakerWindow implements IBreaker {
  state: unknown;
  readonly #now: () => number;
  readonly #buckets: Bucket[] = Array.from({ length: BUCKETS }, () => ({
    second: -1,
    calls: 0,
    failed: 0,
    slow: 0,
  }));
  #timeouts: number[] = [];

  constructor(now: () => number) {
    this.#now = now;
  }

  /** Records a call that has ended. */
  record(call: { failed: boolean; slow: boolean; timedOut: boolean }): void {
    const bucket = this.#bucket();
    bucket.calls += 1;
    if (call.failed) bucket.failed += 1;
    if (call.slow) bucket.slow += 1;
    if (call.timedOut) this.#timeouts.push(this.#now());
  }

  success(state: CircuitState): void {
    if (state === CircuitState.HalfOpen) this.#forget();
  }

  failure(state: CircuitState): boolean {
    if (state !== CircuitState.HalfOpen && !this.#isOverLimit()) return false;
    this.#forget();
    return true;
  }

  #isOverLimit(): boolean {
    const oldest = this.#second() - BUCKETS;
    let [calls, failed, slow] = [0, 0, 0];
    for (const bucket of this.#buckets) {
      if (bucket.second <= oldest) continue;
      calls += bucket.calls;
      failed += bucket.failed;
      slow += bucket.slow;
    }
    const minuteAgo = this.#now() - MINUTE_MS;
    this.#timeouts = this.#timeouts.filter((at) => at > minuteAgo);
    if (this.#timeouts.length >= BREAKER.timeoutsAMinute) return true;
    if (calls < BREAKER.minCalls) return false;
    return failed >= calls * BREAKER.failedShare || slow > calls * BREAKER.slowShare;
  }

  #second(): number {
    return Math.floor(this.#now() / BUCKET_MS);
  }

  #bucket(): Bucket {
    const second = this.#second();
    const bucket = this.#buckets[second % BUCKETS]!;
    if (bucket.second !== second) Object.assign(bucket, { second, calls: 0, failed: 0, slow: 0 });
    return bucket;
  }

  /** Forgets calls from before an open circuit: the server may have recovered. */
  #forget(): void {
    for (const bucket of this.#buckets) bucket.second = -1;
    this.#timeouts = [];
  }
}
