import { messageOf } from '../model/errors.ts';
import { settleWithin } from './deadline.ts';

/** Age up to which a URL is used without another look at its source. Many new connections ask once. */
const FRESH_MS = 2_000;
/** Maximum time that a new connection waits for the source. The known URL is used after it. */
const WAIT_MS = 1_000;
/** The same after the server has refused the known password. */
const REFUSED_WAIT_MS = 5_000;

/**
 * URL of a server, whose password may change while a process runs for weeks. Its source, a file or a
 * command, is read again after a refusal, and by a process that follows it also for new connections. A URL
 * without such a source stays as it is.
 */
export class ServerUrl {
  readonly #read: (() => Promise<string>) | undefined;
  #current: string;
  #readAt = performance.now();
  #reading: Promise<void> | undefined;
  /** Time of the last reading after a refused password, if it showed the same URL. */
  #unchangedAt = Number.NEGATIVE_INFINITY;
  #reported: string | undefined;
  /** Database host that took the last session. It is tried first where only one host can fit. */
  lastHost: string | undefined;
  #following = false;
  #onProblem: (reason: string) => void = () => {};

  /** `read`: reads and checks the source. */
  constructor(current: string, read?: () => Promise<string>) {
    this.#current = current;
    this.#read = read;
  }

  static of(url: string | ServerUrl): ServerUrl {
    return typeof url === 'string' ? new ServerUrl(url) : url;
  }

  /**
   * Reads the source for new connections from now on. For roles: a command of an operator may ask for a
   * passphrase. `onProblem` is called when the source cannot be used, once for the same reason.
   */
  follow(onProblem: (reason: string) => void): void {
    this.#following = true;
    this.#onProblem = onProblem;
  }

  /** The URL as it was read last. */
  get current(): string {
    return this.#current;
  }

  /** Returns the URL for a new connection. */
  async latest(): Promise<string> {
    if (this.#read && this.#following && performance.now() - this.#readAt > FRESH_MS)
      await settleWithin(WAIT_MS, this.#readAgain());
    return this.#current;
  }

  /** Returns the URL after the server has refused the password in `used`: another one, if there is one. */
  async afterRefusal(used: string): Promise<string> {
    if (!this.#read || this.#current !== used) return this.#current;
    // A password that stays wrong must not start the command of its source with each connection.
    if (performance.now() - this.#unchangedAt <= FRESH_MS) return used;
    await settleWithin(REFUSED_WAIT_MS, this.#readAgain());
    if (this.#current === used) this.#unchangedAt = performance.now();
    return this.#current;
  }

  /** Returns a URL that is made of this one, and follows its source. */
  derive(change: (url: string) => string): ServerUrl {
    const read = this.#read && (() => this.#readAgain().then(() => change(this.#current)));
    const derived = new ServerUrl(change(this.#current), read);
    if (this.#following) derived.follow(() => {});
    return derived;
  }

  /** Concurrent calls share one reading. Never rejects. */
  #readAgain(): Promise<void> {
    this.#reading ??= this.#read!()
      .then(
        (url) => {
          this.#current = url;
          this.#reported = undefined;
        },
        (error) => {
          const reason = messageOf(error);
          if (reason !== this.#reported) this.#onProblem(reason);
          this.#reported = reason;
        },
      )
      .finally(() => {
        this.#readAt = performance.now();
        this.#reading = undefined;
      });
    return this.#reading;
  }
}
