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
  /** YYYY-MM-DD; null where it is not known. */
  readonly birthdate: string | null;
  readonly biography: string;
  readonly city: string;
  readonly pushState: PushState;
  readonly followerCount: number;
  /** Above this post id the materialized feed is complete. */
  readonly feedFloor: number;
  readonly createdAt: Date;
}

const COLUMNS = `id, first_name as "firstName", second_name as "secondName", birthdate, biography, city,
  push_state as "pushState",
  follower_count as "followerCount", feed_floor as "feedFloor", created_at as "createdAt"`;

export type NewUser = Pick<User, 'id' | 'firstName' | 'secondName'> &
  Partial<Pick<User, 'birthdate' | 'biography' | 'city'>> & {
    /** Without one nobody can log in as this user. */
    readonly passwordHash?: string | null;
  };

/** `again`: a try before may have written this user, and only its answer been lost. Throws USER_EXISTS. */
export async function insertUser(db: Queryable, user: NewUser, again = false): Promise<User> {
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
    if (again && isDuplicate(error)) return getUser(db, user.id);
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

/** How many rows a user has: whom they follow, what they posted, what is in their feed. One shard's. */
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

/** The password as it is stored, null where the user has none. Throws USER_NOT_FOUND. */
export async function passwordHashOf(db: Queryable, id: number): Promise<string | null> {
  const { rows } = await db.query<{ hash: string | null }>(
    'select password_hash as hash from users where id = $1',
    [id],
  );
  if (!rows[0]) throw new FeedctlError('USER_NOT_FOUND', `there is no user ${id}`);
  return rows[0].hash;
}

/**
 * Users whose names begin so, upper and lower case told apart, by id. Of a prefix that is empty the condition is left
 * out, as the index of the other one then serves.
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

/** On Citus. */
const SHARDS_AT_A_TIME = 4;

/** Those of `ids` that are no users. */
export async function missingUsers(db: Store, ids: readonly number[]): Promise<number[]> {
  const groups = (await db.sharding()).group(ids, (id) => id);
  const found = new Set<number>();
  await runConcurrently(groups, SHARDS_AT_A_TIME, async (group) => {
    const { rows } = await db.query<{ id: number }>('select id from users where id = any($1)', [group]);
    for (const { id } of rows) found.add(id);
  });
  return ids.filter((id) => !found.has(id));
}

/** Ids in rising order, after `after`: for work that goes through all users in chunks. */
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

/** So many users at random, or all where there are no more. Reads the table once, and returns little more than asked for. */
export async function randomUserIds(db: Queryable, count: number): Promise<number[]> {
  const total = await countUsers(db);
  // Each user is drawn by itself, so the number of those drawn scatters by its root around the mean.
  const wanted = count + 5 * Math.sqrt(count) + 5;
  const share = Math.min(1, wanted / Math.max(1, total));
  const { rows } = await db.query<{ id: number }>('select id from users where random() < $1', [share]);
  for (let at = rows.length - 1; at > 0; at -= 1) {
    const other = Math.floor(Math.random() * (at + 1));
    [rows[at], rows[other]] = [rows[other]!, rows[at]!];
  }
  return rows.slice(0, count).map((row) => row.id);
}

/** The user at this place in rising order of ids, counted from 0. */
export async function userIdAt(db: Queryable, place: number): Promise<number | undefined> {
  const { rows } = await db.query<{ id: number }>('select id from users order by id offset $1 limit 1', [
    place,
  ]);
  return rows[0]?.id;
}

export const USER_ORDERS = ['id', 'followers'] as const;

/** A page of users. The cursor holds the order's key and the id, so that no page repeats or passes over a user. */
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
