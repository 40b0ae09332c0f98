import type { Log } from './log.ts';

const REPEAT_MS = 60_000;

/**
 * Logs how a recurring task goes. An outage of minutes would otherwise write a line at each turn: the
 * first failure, another reason, and one failure a minute are logged, and then that the task works again.
 */
export class OutcomeLog {
  readonly #log: Log;
  readonly #task: string;
  readonly #now: () => number;
  #reason: string | undefined;
  #loggedAt = 0;
  /** Failures since the last success. */
  #failures = 0;

  /** `now`: milliseconds of a clock that never goes back. */
  constructor(log: Log, task: string, now: () => number = () => performance.now()) {
    this.#log = log;
    this.#task = task;
    this.#now = now;
  }

  failed(reason: string): void {
    this.#failures += 1;
    if (reason === this.#reason && this.#now() - this.#loggedAt < REPEAT_MS) return;
    this.#reason = reason;
    this.#loggedAt = this.#now();
    this.#log.warn({ task: this.#task, reason, failures: this.#failures }, 'task failed');
  }

  worked(): void {
    if (this.#failures === 0) return;
    this.#log.info({ task: this.#task, failures: this.#failures }, 'task works again');
    this.#failures = 0;
    this.#reason = undefined;
  }
}
