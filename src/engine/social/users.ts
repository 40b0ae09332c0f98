import { FeedctlError } from '../model/errors.ts';
import { checkText } from '../model/post.ts';
import type { Queryable } from '../store/database.ts';
import { insertUser, type User } from '../store/users.ts';
import type { SocialContext } from './context.ts';

const MAX_NAME_CHARACTERS = 100;

/** `id` undefined: a new one. Throws USER_EXISTS, USAGE or TEXT_INVALID. */
export async function createUser(
  context: Pick<SocialContext, 'db' | 'ids'>,
  user: { id?: number; firstName?: string; secondName?: string; dryRun?: boolean },
): Promise<User> {
  const { firstName = '', secondName = '' } = user;
  for (const name of [firstName, secondName]) {
    checkText(name, 'name');
    if (name.length > MAX_NAME_CHARACTERS) {
      throw new FeedctlError(
        'USAGE',
        `a name has at most ${MAX_NAME_CHARACTERS} characters, this one has ${name.length}`,
      );
    }
  }
  const id = user.id ?? (await context.ids.next());
  const write = (db: Queryable) => insertUser(db, { id, firstName, secondName });
  return user.dryRun ? context.db.rehearse(write) : write(context.db);
}
