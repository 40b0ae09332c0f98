import { randomBytes, type ScryptOptions, scrypt, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';
import { type BulkheadPolicy, BulkheadRejectedError, bulkhead } from 'cockatiel';
import { FeedctlError } from '../model/errors.ts';

/**
 * 16 MiB and about 150 ms a password: one of the equal settings that OWASP's password storage cheat sheet names for
 * scrypt (N=2^14, r=8, p=5), the one that takes little memory.
 */
const COST = { ln: 14, r: 8, p: 5 };
const SALT_BYTES = 16;
const HASH_BYTES = 32;
/** Half of libuv's threads: signatures, names and files have the others. */
const AT_A_TIME = 2;
/** Some five seconds of waiting on two cores: past that a client is better told to come back. */
const WAITING = 32;

const derive = promisify<string, Buffer, number, ScryptOptions, Buffer>(scrypt);

/** Passwords as they are stored, `$scrypt$ln=14,r=8,p=5$salt$hash`, a few at a time. */
export class Passwords {
  readonly #turns: BulkheadPolicy = bulkhead(AT_A_TIME, WAITING);

  /** Throws OVERLOADED where too many passwords wait already. */
  async hash(password: string): Promise<string> {
    const salt = randomBytes(SALT_BYTES);
    const { ln, r, p } = COST;
    const hash = await this.#derive(password, salt, COST, HASH_BYTES);
    return `$scrypt$ln=${ln},r=${r},p=${p}$${salt.toString('base64')}$${hash.toString('base64')}`;
  }

  /** Whether it is the password that was stored, by the settings it was stored with. Throws OVERLOADED. */
  async matches(password: string, stored: string): Promise<boolean> {
    const match = /^\$scrypt\$ln=(\d+),r=(\d+),p=(\d+)\$([^$]+)\$([^$]+)$/.exec(stored);
    if (!match) throw new Error('a stored password has another form');
    const [ln, r, p] = match.slice(1, 4).map(Number) as [number, number, number];
    const hash = Buffer.from(match[5]!, 'base64');
    const salt = Buffer.from(match[4]!, 'base64');
    return timingSafeEqual(await this.#derive(password, salt, { ln, r, p }, hash.length), hash);
  }

  async #derive(password: string, salt: Buffer, cost: typeof COST, bytes: number): Promise<Buffer> {
    const { ln, r, p } = cost;
    const N = 2 ** ln;
    try {
      // The same letters may be written in several ways: NFKC makes them one.
      return await this.#turns.execute(() =>
        derive(password.normalize('NFKC'), salt, bytes, { N, r, p, maxmem: 256 * N * r }),
      );
    } catch (error) {
      if (error instanceof BulkheadRejectedError)
        throw new FeedctlError('OVERLOADED', 'too many passwords wait to be checked');
      throw error;
    }
  }
}
