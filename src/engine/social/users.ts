import type { Queryable } from '../database/database.ts';
import { FeedctlError } from '../model/errors.ts';
import { checkText } from '../model/post.ts';
import { insertUser, passwordHashOf, type User } from '../store/users.ts';
import type { SocialContext } from './context.ts';
import type { Passwords } from './passwords.ts';

export const MAX_NAME_CHARACTERS = 100;

interface Profile {
  readonly firstName?: string;
  readonly secondName?: string;
  /** YYYY-MM-DD. */
  readonly birthdate?: string | undefined;
  readonly biography?: string | undefined;
  readonly city?: string | undefined;
}

const FIRST_BIRTHDATE = '1900-01-01';

/** Throws USAGE or TEXT_INVALID. */
function checkProfile({
  firstName = '',
  secondName = '',
  birthdate,
  biography = '',
  city = '',
}: Profile): void {
  for (const name of [firstName, secondName]) {
    checkText(name, 'name');
    // Code points, as the schema of the API counts.
    const characters = [...name].length;
    if (characters > MAX_NAME_CHARACTERS) {
      throw new FeedctlError(
        'USAGE',
        `a name has at most ${MAX_NAME_CHARACTERS} characters, this one has ${characters}`,
      );
    }
  }
  checkText(biography, 'biography');
  checkText(city, 'city');
  const today = new Date().toISOString().slice(0, 10);
  if (birthdate !== undefined && (birthdate < FIRST_BIRTHDATE || birthdate > today))
    throw new FeedctlError('USAGE', `the birthdate ${birthdate} is not between ${FIRST_BIRTHDATE} and today`);
}

/** Returns the birthdate (YYYY-MM-DD) of a person who turns `age` today. */
export function birthdateOfAge(age: number): string {
  const day = new Date();
  day.setUTCFullYear(day.getUTCFullYear() - age);
  return day.toISOString().slice(0, 10);
}

/**
 * Creates a user. `id` undefined: a new id. A user without a `passwordHash` cannot log in. Throws
 * USER_EXISTS, USAGE or TEXT_INVALID.
 */
export async function createUser(
  context: Pick<SocialContext, 'db' | 'ids'>,
  user: Profile & { id?: number; passwordHash?: string; dryRun?: boolean },
): Promise<User> {
  checkProfile(user);
  const { db, ids } = context;
  const id = user.id ?? (await db.retry(() => ids.next()));
  const { firstName = '', secondName = '', biography = '', city = '' } = user;
  const { birthdate = null, passwordHash = null } = user;
  const row = { id, firstName, secondName, birthdate, biography, city, passwordHash };
  if (user.dryRun) return db.rehearse((session: Queryable) => insertUser(session, row));
  // A new id is unique: an existing user with it was inserted by a try whose answer was lost.
  return db.retry((isRetry) => insertUser(db, row, isRetry && user.id === undefined));
}

/** Creates a user who can log in. Throws OVERLOADED, or as `createUser`. */
export async function registerUser(
  context: Pick<SocialContext, 'db' | 'ids'> & { passwords: Passwords },
  user: Profile & { password: string },
): Promise<User> {
  const { password, ...profile } = user;
  checkProfile(profile);
  return createUser(context, { ...profile, passwordHash: await context.passwords.hash(password) });
}

/**
 * Returns when the account was created. Throws USER_NOT_FOUND, WRONG_PASSWORD (also for a user
 * without a password) or OVERLOADED.
 */
export async function checkPassword(
  context: Pick<SocialContext, 'db'> & { passwords: Passwords },
  userId: number,
  password: string,
): Promise<Date> {
  const { hash, createdAt } = await context.db.retry(() => passwordHashOf(context.db, userId));
  if (hash === null || !(await context.passwords.matches(password, hash)))
    throw new FeedctlError('WRONG_PASSWORD', `that is not the password of user ${userId}`);
  return createdAt;
}
