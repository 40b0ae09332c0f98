import { createSecretKey, type KeyObject, randomBytes } from 'node:crypto';
import { jwtVerify, SignJWT } from 'jose';
import { LRUCache } from 'lru-cache';
import type { Database, Queryable } from '../database/database.ts';
import { FeedctlError, isFeedctlError } from '../model/errors.ts';
import { changeTokenKeys, readTokenKeys, type TokenKey } from '../store/tokenKeys.ts';
import { createdAtOf, getUser } from '../store/users.ts';
import { ErasedAccounts } from './erasedAccounts.ts';

export const TOKEN_SECONDS = 12 * 60 * 60;
const ALGORITHM = 'HS256';
const OPERATOR = 'operator';
/** Role of a token that shows the cluster and changes nothing. */
const VIEWER = 'viewer';
/** An operator token is for one command. */
const OPERATOR_SECONDS = 60;
/** Key of tokens without a key id, which were signed before keys had ids. */
const FIRST_KEY = '0';
/** Minimum interval of reads for unknown key ids: invented ids must not cost a statement each. */
const REREAD_INTERVAL_MS = 1_000;
const KNOWN_TOKENS = 20_000;

/** The user of a token, the end of its validity, and the creation of its account if the token has it. */
interface TokenUser {
  readonly userId: number;
  readonly until: number;
  readonly born: number | undefined;
}

/** Checks and signs the tokens of a cluster, at one gateway. */
export interface Tokens {
  /**
   * Returns the user of a token. Reads the database only for an unknown key id. Throws
   * INVALID_TOKEN, or USER_NOT_FOUND for a token of an erased account, whose id may have a new owner.
   */
  check(token: string): Promise<number>;
  /**
   * Does the same without caching the result, for a token that is not expected again soon, as that
   * of a WebSocket, and throws INVALID_TOKEN alone. `until`: end of its validity, in unix
   * milliseconds.
   */
  checkOnce(token: string): Promise<{ readonly userId: number; readonly until: number }>;
  /** Throws INVALID_TOKEN for any token that is not an operator's. */
  checkOperator(token: string): Promise<void>;
  /**
   * Accepts the tokens of operators and of viewers. Throws NOT_OPERATOR for a user's token, and
   * INVALID_TOKEN for any other.
   */
  checkViewer(token: string): Promise<void>;
  /** `createdAt`: creation of the account that the token is for. */
  sign(userId: number, createdAt?: Date): Promise<string>;
  /**
   * Called when a key is revoked whose tokens have not expired: sockets opened with them must
   * close.
   */
  onRevoked: () => void;
  /** Reads the keys and the erasures again. */
  refresh(): Promise<void>;
  /** Refuses tokens of a user whose erasure was announced. */
  erased(userId: number): Promise<void>;
}

export async function openTokens(db: Queryable): Promise<Tokens> {
  let stored: TokenKey[] = [];
  let keys = new Map<string, { key: KeyObject; until: number }>();
  let readAt = 0;
  let reading: Promise<void> | undefined;
  // The signature of a token is checked at its first use.
  const known = new LRUCache<string, TokenUser>({ max: KNOWN_TOKENS });
  const accounts = new ErasedAccounts(db, TOKEN_SECONDS);
  const read = async () => {
    const found = await readTokenKeys(db);
    readAt = performance.now();
    if (JSON.stringify(found) === JSON.stringify(stored)) return;
    const kept = new Set(found.map(({ id }) => id));
    const now = Date.now();
    const revoked = [...keys].some(([id, { until }]) => !kept.has(id) && until > now);
    stored = found;
    keys = new Map(
      found.map(({ id, secret, until }) => [
        id,
        { key: secretKey(secret), until: until ? Date.parse(until) : Number.POSITIVE_INFINITY },
      ]),
    );
    known.clear();
    if (revoked) tokens.onRevoked();
  };
  const refreshKeys = () => {
    reading ??= read().finally(() => {
      reading = undefined;
    });
    return reading;
  };
  const keyOf = async (kid = FIRST_KEY) => {
    if (!keys.has(kid) && performance.now() - readAt > REREAD_INTERVAL_MS) await refreshKeys();
    const found = keys.get(kid);
    if (!found || found.until < Date.now()) throw new Error('no such key');
    return found;
  };
  /** Returns the claims of a token, and the end of its validity. */
  const verify = async (token: string, requiredClaims: string[]) => {
    try {
      let keyUntil = 0;
      const { payload } = await jwtVerify(
        token,
        async ({ kid }) => {
          const { key, until } = await keyOf(kid);
          keyUntil = until;
          return key;
        },
        { algorithms: [ALGORITHM], requiredClaims: ['exp', ...requiredClaims] },
      );
      return { payload, until: Math.min(payload.exp! * 1000, keyUntil) };
    } catch (error) {
      // The keys could not be read: the token may be valid.
      if (isFeedctlError(error)) throw error;
      // The bearer does not learn why a token is invalid.
      throw invalidToken();
    }
  };
  const userOf = async (token: string) => {
    const { payload, until } = await verify(token, ['sub']);
    const userId = Number(payload.sub);
    if (!Number.isSafeInteger(userId) || userId <= 0) throw invalidToken();
    return { userId, until, born: typeof payload.born === 'number' ? payload.born : undefined };
  };
  /** Checks a known token too: an account may be erased after the first use of its token. */
  const checkAccount = ({ userId, born }: TokenUser): number => {
    if (accounts.includes(userId, born))
      throw new FeedctlError('USER_NOT_FOUND', `the account of the token, user ${userId}, was erased`);
    return userId;
  };
  const tokens: Tokens = {
    onRevoked: () => {},
    async check(token) {
      const before = known.get(token);
      if (before && before.until > Date.now()) return checkAccount(before);
      const found = await userOf(token);
      known.set(token, found);
      return checkAccount(found);
    },
    async checkOnce(token) {
      const found = await userOf(token);
      if (accounts.includes(found.userId, found.born)) throw invalidToken();
      return found;
    },
    async checkOperator(token) {
      const { payload } = await verify(token, ['role']);
      if (payload.role !== OPERATOR) throw invalidToken();
    },
    async checkViewer(token) {
      const { role, sub } = (await verify(token, [])).payload;
      if (role === OPERATOR || role === VIEWER) return;
      if (sub === undefined) throw invalidToken();
      throw new FeedctlError('NOT_OPERATOR', 'the token is one of a user, and this is for operators');
    },
    async sign(userId, createdAt) {
      // A key that was just replaced must not sign.
      await refreshKeys();
      return sign(stored.at(-1)!, ...userClaims(userId, createdAt));
    },
    async refresh() {
      await Promise.all([refreshKeys(), accounts.refresh()]);
    },
    erased: (userId) => accounts.refreshUser(userId),
  };
  await tokens.refresh();
  return tokens;
}

const invalidToken = () => new FeedctlError('INVALID_TOKEN', 'the token is missing, malformed or expired');

const secretKey = (secret: string): KeyObject => createSecretKey(Buffer.from(secret, 'hex'));

type Claims = Readonly<Record<string, string | number | undefined>>;

/**
 * Returns the claims and the seconds of a user's token. The claim `born` is the creation of the
 * account, in unix milliseconds: the next owner of an erased id has another one.
 */
const userClaims = (userId: number, createdAt: Date | undefined): [Claims, number] => [
  { sub: String(userId), born: createdAt?.getTime() },
  TOKEN_SECONDS,
];

const sign = ({ id, secret }: TokenKey, claims: Claims, seconds: number): Promise<string> =>
  new SignJWT(claims)
    .setProtectedHeader({ alg: ALGORITHM, kid: id })
    .setIssuedAt()
    .setExpirationTime(`${seconds}s`)
    .sign(secretKey(secret));

const signingKey = async (db: Queryable): Promise<TokenKey> => (await readTokenKeys(db)).at(-1)!;

/** Signs a JWT with which its bearer acts as that user at any gateway for 12 hours. */
export const signToken = async (db: Queryable, userId: number): Promise<string> =>
  sign(await signingKey(db), ...userClaims(userId, await createdAtOf(db, userId)));

/**
 * Signs a JWT without a user, for the `/admin` routes. Access to the database is permission enough.
 */
export const signOperatorToken = async (db: Queryable): Promise<string> =>
  sign(await signingKey(db), { role: OPERATOR }, OPERATOR_SECONDS);

/** Signs a JWT that shows the cluster on the page of its gateways for 12 hours, and allows no change. */
export const signViewerToken = async (db: Queryable): Promise<string> =>
  sign(await signingKey(db), { role: VIEWER }, TOKEN_SECONDS);

/** Issues a token of an existing user, for operators. Throws USER_NOT_FOUND. */
export async function issueToken(db: Queryable, userId: number): Promise<string> {
  const { createdAt } = await getUser(db, userId);
  return sign(await signingKey(db), ...userClaims(userId, createdAt));
}

export interface KeyRotation {
  /** Id of the new key; null in a dry run. */
  readonly keyId: string | null;
  /** Older keys whose tokens are still accepted, and the end of that. */
  readonly accepted: readonly { readonly keyId: string; readonly until: string }[];
  readonly revoked: readonly string[];
}

/**
 * Adds a key that signs tokens from now on. Tokens of older keys are accepted until they expire.
 * With `revoke` they are refused, at each gateway within 5 s.
 */
export async function rotateTokenKey(
  db: Database,
  options: { revoke: boolean; dryRun: boolean },
): Promise<KeyRotation> {
  const next = { id: randomBytes(6).toString('base64url'), secret: randomBytes(32).toString('hex') };
  const until = new Date(Date.now() + TOKEN_SECONDS * 1000).toISOString();
  const rotated = (keys: readonly TokenKey[]): TokenKey[] => {
    const kept = keys
      .map((key) => ({ ...key, until: key.until ?? until }))
      .filter((key) => Date.parse(key.until) > Date.now());
    return [...(options.revoke ? [] : kept), next];
  };
  const before = await readTokenKeys(db);
  const after = options.dryRun ? rotated(before) : await changeTokenKeys(db, rotated);
  return {
    keyId: options.dryRun ? null : next.id,
    accepted: after.flatMap(({ id, until }) => (until ? [{ keyId: id, until }] : [])),
    revoked: before.filter(({ id }) => !after.some((key) => key.id === id)).map(({ id }) => id),
  };
}
