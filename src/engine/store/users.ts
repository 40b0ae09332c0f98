import { isDuplicate } from '../database/errors.ts';
import type { Store } from '../database/sharding.ts';
import type { Queryable } from '../database/types.ts';
import type { PushState } from '../model/celebrity.ts';
import { FeedctlError } from '../model/errors.ts';
import { runConcurrently } from '../util/parallel.ts';

export interface User {
  readonly id: number;
  readonly firstName: string;
  readonly secondName: string;
  /** YYYY-MM-DD. Null if unknown. */
  readonly birthdate: string | null;
  readonly biography: string;
  readonly city: string;
  readonly pushState: PushState;
  readonly followerCount: number;
  /** The materialized feed is complete above this post id. */
  readonly feedFloor: number;
  readonly createdAt: Date;
}

const COLUMNS = `id, first_name as "firstName", second_name as "secondName", birthdate, biography, city,
  push_state as "pushState",
  follower_count as "followerCount", feed_floor as "feedFloor", created_at as "createdAt"`;

export type NewUser = Pick<User, 'id' | 'firstName' | 'secondName'> &
  Partial<Pick<User, 'birthdate' | 'biography' | 'city'>> & {
    /** Users without a password cannot log in. */
    readonly passwordHash?: string | null;
  };

/**
 * `isRetry`: an earlier attempt may have written this user although its answer was lost. Throws
 * USER_EXISTS.
 */
export async function insertUser(db: Queryable, user: NewUser, isRetry = false): Promise<User> {
  try {
    const { rows } = await db.query<User>(
      `insert into users (id, first_name, second_name, birthdate, biography, city, password_hash)
       values ($1, $2, $3, $4, $5, $6, $7) returning ${COLUMNS}`,
      [
        user.id,
        user.firstName,
        user.secondName,
        user.birthdate ?? null,
        user.biography ?? '',
        user.city ?? '',
        user.passwordHash ?? null,
      ],
    );
    return rows[0]!;
  } catch (error) {
    if (isRetry && isDuplicate(error)) return getUser(db, user.id);
    if (isDuplicate(error)) throw new FeedctlError('USER_EXISTS', `there is a user ${user.id} already`);
    throw error;
  }
}

/** Throws USER_NOT_FOUND. */
export async function getUser(db: Queryable, id: number): Promise<User> {
  const { rows } = await db.query<User>(`select ${COLUMNS} from users where id = $1`, [id]);
  if (!rows[0]) throw new FeedctlError('USER_NOT_FOUND', `there is no user ${id}`);
  return rows[0];
}

/** Returns the number of a user's follows, posts and feed rows. Reads one shard. */
export async function userCounts(
  db: Queryable,
  id: number,
): Promise<{ following: number; posts: number; items: number }> {
  const { rows } = await db.query<{ following: number; posts: number; items: number }>(
    `select (select count(*)::integer from follows where follower_id = $1) as following,
            (select count(*)::integer from posts where author_id = $1 and deleted_at is null) as posts,
            (select count(*)::integer from feed_items where user_id = $1) as items
     from users where id = $1`,
    [id],
  );
  return rows[0] ?? { following: 0, posts: 0, items: 0 };
}

/** Returns the stored password hash. Null if the user has no password. Throws USER_NOT_FOUND. */
export async function passwordHashOf(
  db: Queryable,
  id: number,
): Promise<{ readonly hash: string | null; readonly createdAt: Date }> {
  const { rows } = await db.query<{ hash: string | null; createdAt: Date }>(
    'select password_hash as hash, created_at as "createdAt" from users where id = $1',
    [id],
  );
  if (!rows[0]) throw new FeedctlError('USER_NOT_FOUND', `there is no user ${id}`);
  return rows[0];
}

/** Returns when an account was created; undefined if there is no such user. */
export async function createdAtOf(db: Queryable, id: number): Promise<Date | undefined> {
  const { rows } = await db.query<{ createdAt: Date }>(
    'select created_at as "createdAt" from users where id = $1',
    [id],
  );
  return rows[0]?.createdAt;
}

/**
 * Returns users by prefixes of their names, case-sensitive, ordered by id. An empty prefix adds no
 * condition, so that the index of the other name serves.
 */
export async function searchUsers(
  db: Queryable,
  query: { firstName: string; secondName: string; after: number; limit: number },
): Promise<User[]> {
  const values: unknown[] = [query.after, query.limit];
  const conditions = [
    ['first_name', query.firstName],
    ['second_name', query.secondName],
  ].flatMap(([column, prefix]) => {
    if (!prefix) return [];
    values.push(`${prefix.replace(/[\\%_]/g, '\\$&')}%`);
    return [`${column} <> '' and ${column} like $${values.length}`];
  });
  const { rows } = await db.query<User>(
    `select ${COLUMNS} from users where ${[...conditions, 'id > $1'].join(' and ')} order by id limit $2`,
    values,
  );
  return rows;
}

/** Returns the existing ones of these users, ordered by id. */
export async function usersOf(db: Queryable, ids: readonly number[]): Promise<User[]> {
  const { rows } = await db.query<User>(`select ${COLUMNS} from users where id = any($1) order by id`, [ids]);
  return rows;
}

/** Shards that are read concurrently, on Citus. */
const SHARD_CONCURRENCY = 4;

/** Returns the ids that belong to no user. */
export async function missingUsers(db: Store, ids: readonly number[]): Promise<number[]> {
  const groups = (await db.sharding()).group(ids, (id) => id);
  const found = new Set<number>();
  await runConcurrently(groups, SHARD_CONCURRENCY, async (group) => {
    const { rows } = await db.query<{ id: number }>('select id from users where id = any($1)', [group]);
    for (const { id } of rows) found.add(id);
  });
  return ids.filter((id) => !found.has(id));
}

/** Returns ids in rising order, after `after`, for work on all users in chunks. */
export async function userIdsAfter(db: Queryable, after: number, limit: number): Promise<number[]> {
  const { rows } = await db.query<{ id: number }>('select id from users where id > $1 order by id limit $2', [
    after,
    limit,
  ]);
  return rows.map((row) => row.id);
}

export async function countUsers(db: Queryable): Promise<number> {
  const { rows } = await db.query<{ total: number }>('select count(*)::integer as total from users');
  return rows[0]!.total;
}

/**
 * Returns this many random users, or all if there are fewer. Reads the table once, and returns few
 * more rows than needed.
 */
export async function randomUserIds(db: Queryable, count: number): Promise<number[]> {
  const total = await countUsers(db);
  // Each user is drawn independently, so the number of drawn users deviates from the mean by about
  // its square root.
  const drawn = count + 5 * Math.sqrt(count) + 5;
  const share = Math.min(1, drawn / Math.max(1, total));
  const { rows } = await db.query<{ id: number }>('select id from users where random() < $1', [share]);
  for (let at = rows.length - 1; at > 0; at -= 1) {
    const other = Math.floor(Math.random() * (at + 1));
    [rows[at], rows[other]] = [rows[other]!, rows[at]!];
  }
  return rows.slice(0, count).map((row) => row.id);
}

/** Returns the user at this place in rising order of ids, counted from 0. */
export async function userIdAt(db: Queryable, place: number): Promise<number | undefined> {
  const { rows } = await db.query<{ id: number }>('select id from users order by id offset $1 limit 1', [
    place,
  ]);
  return rows[0]?.id;
}

export const USER_ORDERS = ['id', 'followers'] as const;

/**
 * Returns a page of users. The cursor holds the sort key and the id, so that pages neither repeat
 * nor skip a user.
 */
export async function listUsers(
  db: Queryable,
  query: { limit: number; order: (typeof USER_ORDERS)[number]; cursor?: string },
): Promise<{ users: User[]; total: number; nextCursor: string | null }> {
  const [first, second] = (query.cursor ?? '').split('.').map(Number);
  if (query.cursor !== undefined && !/^\d+(\.\d+)?$/.test(query.cursor)) {
    throw new FeedctlError('USAGE', `${JSON.stringify(query.cursor)} is no cursor of this list`);
  }
  const byId = query.order === 'id';
  const { rows } = byId
    ? await db.query<User>(`select ${COLUMNS} from users where id > $1 order by id limit $2`, [
        first ?? 0,
        query.limit,
      ])
    : await db.query<User>(
        `select ${COLUMNS} from users where (follower_count, -id) < ($1, -$2::bigint)
         order by follower_count desc, id limit $3`,
        [query.cursor === undefined ? 2 ** 31 - 1 : first, second ?? 0, query.limit],
      );
  const total = await countUsers(db);
  const last = rows.length === query.limit ? rows.at(-1) : undefined;
  const nextCursor = last ? (byId ? String(last.id) : `${last.followerCount}.${last.id}`) : null;
  return { users: rows, total, nextCursor };
}
