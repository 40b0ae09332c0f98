import { randomBytes, type ScryptOptions, scrypt, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';
import { type BulkheadPolicy, BulkheadRejectedError, bulkhead } from 'cockatiel';
import { FeedctlError } from '../model/errors.ts';

/**
 * 16 MiB and about 150 ms a password. OWASP's password storage cheat sheet lists several equal
 * settings for scrypt; this one (N=2^14, r=8, p=5) uses little memory.
 */
const COST = { ln: 14, r: 8, p: 5 };
const SALT_BYTES = 16;
const HASH_BYTES = 32;
/** Half of libuv's threads: the others serve signatures, DNS and files. */
const CONCURRENCY = 2;
/**
 * Maximum waiting passwords: about five seconds on two cores. Past that the client should retry
 * later.
 */
const MAX_WAITING = 32;

const derive = promisify<string, Buffer, number, ScryptOptions, Buffer>(scrypt);

/**
 * Hashes passwords in the stored form `$scrypt$ln=14,r=8,p=5$salt$hash`, a few at the same time.
 */
export class Passwords {
  readonly #derivations: BulkheadPolicy = bulkhead(CONCURRENCY, MAX_WAITING);

  /** Throws OVERLOADED if too many passwords wait already. */
  async hash(password: string): Promise<string> {
    const salt = randomBytes(SALT_BYTES);
    const { ln, r, p } = COST;
    const hash = await this.#derive(password, salt, COST, HASH_BYTES);
    return `$scrypt$ln=${ln},r=${r},p=${p}$${salt.toString('base64')}$${hash.toString('base64')}`;
  }

  /**
   * Returns true if it is the stored password, by the settings that it was stored with. Throws
   * OVERLOADED.
   */
  async matches(password: string, stored: string): Promise<boolean> {
    const match = /^\$scrypt\$ln=(\d+),r=(\d+),p=(\d+)\$([^$]+)\$([^$]+)$/.exec(stored);
    if (!match) throw new Error('the stored password hash has an unknown form');
    const [ln, r, p] = match.slice(1, 4).map(Number) as [number, number, number];
    const hash = Buffer.from(match[5]!, 'base64');
    const salt = Buffer.from(match[4]!, 'base64');
    return timingSafeEqual(await this.#derive(password, salt, { ln, r, p }, hash.length), hash);
  }

  async #derive(password: string, salt: Buffer, cost: typeof COST, bytes: number): Promise<Buffer> {
    const { ln, r, p } = cost;
    const N = 2 ** ln;
    try {
      // NFKC maps the several encodings of a letter to one.
      return await this.#derivations.execute(() =>
        derive(password.normalize('NFKC'), salt, bytes, { N, r, p, maxmem: 256 * N * r }),
      );
    } catch (error) {
      if (error instanceof BulkheadRejectedError)
        throw new FeedctlError('OVERLOADED', 'too many passwords wait to be checked');
      throw error;
    }
  }
}
