import { jwtVerify, SignJWT } from 'jose';
import { FeedctlError } from '../model/errors.ts';
import type { Queryable } from '../store/database.ts';
import { getUser } from '../store/users.ts';

const TOKEN_LIFETIME = '12h';
const ALGORITHM = 'HS256';

async function tokenKey(db: Queryable): Promise<Uint8Array> {
  const { rows } = await db.query<{ value: string }>(
    `select value from settings where name = 'gateway.tokenKey'`,
  );
  if (!rows[0]) throw new FeedctlError('SCHEMA_MISSING', 'the database holds no token key');
  return Buffer.from(rows[0].value, 'hex');
}

/** A JWT that lets its bearer act as that user at any gateway of the cluster for 12 hours. */
export async function signToken(db: Queryable, userId: number): Promise<string> {
  return new SignJWT()
    .setProtectedHeader({ alg: ALGORITHM })
    .setSubject(String(userId))
    .setIssuedAt()
    .setExpirationTime(TOKEN_LIFETIME)
    .sign(await tokenKey(db));
}

/** Returns a function that gives the user a token stands for, or throws INVALID_TOKEN. */
export async function openTokenCheck(db: Queryable): Promise<(token: string) => Promise<number>> {
  const key = await tokenKey(db);
  return async (token) => {
    try {
      const { payload } = await jwtVerify(token, key, { algorithms: [ALGORITHM] });
      const userId = Number(payload.sub);
      if (Number.isSafeInteger(userId) && userId > 0) return userId;
    } catch {
      // Falls through: why a token is no good is nothing its bearer should learn.
    }
    throw new FeedctlError('INVALID_TOKEN', 'the token is missing, malformed or expired');
  };
}

/** For operators: a token of a user who exists. Throws USER_NOT_FOUND. */
export async function issueToken(db: Queryable, userId: number): Promise<string> {
  await getUser(db, userId);
  return signToken(db, userId);
}
