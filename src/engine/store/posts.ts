import { createHash } from 'node:crypto';
import { CopyRows, copyIn } from '../database/copy.ts';
import type { Database } from '../database/database.ts';
import { isDuplicate } from '../database/errors.ts';
import type { Queryable, Session } from '../database/types.ts';
import { FeedctlError } from '../model/errors.ts';
import type { EventRef } from '../model/event.ts';
import type { FeedEntry } from '../model/feed.ts';
import { timeOfId } from '../model/ids.ts';
import type { Post, StoredPost } from '../model/post.ts';
import { runConcurrently } from '../util/parallel.ts';
import { postOfKey } from './idempotency.ts';

interface NewPost {
  readonly id: number;
  readonly authorId: number;
  readonly body: string;
  readonly eventId: number;
  /**
   * Trace context of the request. It is stored with the event, so that any dispatcher continues the
   * trace.
   */
  readonly traceparent?: string | undefined;
  /** The transaction publishes the event too. */
  readonly dispatched?: boolean;
}

/**
 * Inserts a post and its event atomically, in the author's shard. Returns no row for an unknown
 * author. In: post id, author, body, event id, traceparent, whether the event is dispatched.
 */
const CREATE = `
  with author as (select id from users where id = $2),
  post as (insert into posts (author_id, id, body, created_at)
           select id, $1, $3, clock_timestamp() from author returning *),
  event as (insert into events (id, aggregate_id, subject_id, type, occurred_at, data, traceparent,
                                dispatched_at)
            select $4, author_id, id, 'post.created', created_at, jsonb_build_object('text', body), $5::text,
                   case when $6 then created_at end
            from post)
  select id, author_id as "authorId", body, created_at as "createdAt", version from post`;

/**
 * Inserts a post with a key that its author may use once, even for concurrent requests. Returns no
 * row for a used key. In also: key, hash of the text.
 */
const CREATE_ONCE = `
  with author as (select id from users where id = $2),
  claim as (insert into idempotency_keys (author_id, key, post_id, text_hash)
            select id, $7, $1, $8 from author on conflict do nothing returning author_id),
  post as (insert into posts (author_id, id, body, created_at)
           select author_id, $1, $3, clock_timestamp() from claim returning *),
  event as (insert into events (id, aggregate_id, subject_id, type, occurred_at, data, traceparent,
                                dispatched_at)
            select $4, author_id, id, 'post.created', created_at, jsonb_build_object('text', body), $5::text,
                   case when $6 then created_at end
            from post)
  select id, author_id as "authorId", body, created_at as "createdAt", version from post`;

/**
 * Returns the post of this key: the new one, or the earlier one. Throws USER_NOT_FOUND, or
 * IDEMPOTENCY_KEY_REUSED if the earlier one had another text.
 */
export async function insertPostOnce(db: Queryable, post: NewPost & { key: string }): Promise<Post> {
  const textHash = createHash('sha256').update(post.body).digest();
  const { rows } = await db.query<Post>(CREATE_ONCE, [
    post.id,
    post.authorId,
    post.body,
    post.eventId,
    post.traceparent ?? null,
    post.dispatched ?? false,
    post.key,
    textHash,
  ]);
  if (rows[0]) return rows[0];
  const before = await postOfKey(db, post.authorId, post.key);
  if (!before) throw new FeedctlError('USER_NOT_FOUND', `there is no user ${post.authorId}`);
  if (!before.textHash.equals(textHash)) {
    throw new FeedctlError(
      'IDEMPOTENCY_KEY_REUSED',
      'a post with another text was created with this idempotency key',
    );
  }
  // Repeats the earlier answer, even if the post has changed since.
  return { id: before.id, authorId: post.authorId, body: post.body, createdAt: before.createdAt, version: 1 };
}

/** Throws USER_NOT_FOUND. */
export async function insertPost(db: Queryable, post: NewPost): Promise<Post> {
  const { rows } = await db.query<Post>(CREATE, [
    post.id,
    post.authorId,
    post.body,
    post.eventId,
    post.traceparent ?? null,
    post.dispatched ?? false,
  ]);
  if (!rows[0]) throw new FeedctlError('USER_NOT_FOUND', `there is no user ${post.authorId}`);
  return rows[0];
}

/** In: author, post id, body, event id, expected version (null: any), whether the event is dispatched. */
const UPDATE = `
  with post as (update posts set body = $3, version = version + 1
                where author_id = $1 and id = $2 and deleted_at is null
                  and version = coalesce($5, version) returning *),
  event as (insert into events (id, aggregate_id, subject_id, type, version, occurred_at, data,
                                dispatched_at)
            select $4, author_id, id, 'post.updated', version, clock_timestamp(),
                   jsonb_build_object('text', body), case when $6 then clock_timestamp() end from post)
  select id, author_id as "authorId", body, created_at as "createdAt", version from post`;

/** Returns undefined if the post is deleted or its version differs from the expected one. */
export async function updatePostBody(
  db: Queryable,
  post: {
    id: number;
    authorId: number;
    body: string;
    eventId: number;
    version?: number;
    dispatched?: boolean;
  },
): Promise<Post | undefined> {
  const { rows } = await db.query<Post>(UPDATE, [
    post.authorId,
    post.id,
    post.body,
    post.eventId,
    post.version ?? null,
    post.dispatched ?? false,
  ]);
  return rows[0];
}

/** In: author, post id, event id, whether the event is dispatched. */
const DELETE = `
  with post as (update posts set deleted_at = now(), version = version + 1
                where author_id = $1 and id = $2 and deleted_at is null returning *),
  event as (insert into events (id, aggregate_id, subject_id, type, occurred_at, data, dispatched_at)
            select $3, author_id, id, 'post.deleted', deleted_at, '{}',
                   case when $4 then clock_timestamp() end from post)
  select id from post`;

/** Throws POST_NOT_FOUND, also for a post that is deleted already. */
export async function markPostDeleted(
  db: Queryable,
  post: { id: number; authorId: number; eventId: number; dispatched?: boolean },
): Promise<void> {
  const { rowCount } = await db.query(DELETE, [
    post.authorId,
    post.id,
    post.eventId,
    post.dispatched ?? false,
  ]);
  if (rowCount === 0) throw new FeedctlError('POST_NOT_FOUND', `there is no post ${post.id}`);
}

/** Returns undefined for a deleted post. */
export async function findPost(db: Queryable, post: FeedEntry): Promise<Post | undefined> {
  const { rows } = await db.query<Post>(
    `select id, author_id as "authorId", body, created_at as "createdAt", version
     from posts where author_id = $1 and id = $2 and deleted_at is null`,
    [post.authorId, post.postId],
  );
  return rows[0];
}

/** Returns the existing ones of these posts, including deleted ones. */
export async function storedPosts(db: Queryable, posts: readonly FeedEntry[]): Promise<StoredPost[]> {
  const { rows } = await db.query<StoredPost>(
    `select p.id, p.author_id as "authorId", p.body, p.created_at as "createdAt", p.version,
            p.deleted_at is not null as deleted
     from unnest($1::bigint[], $2::bigint[]) wanted(author_id, id) join posts p using (author_id, id)
     where p.author_id = any($1)`,
    [posts.map((post) => post.authorId), posts.map((post) => post.postId)],
  );
  return rows;
}

/** Returns the ids of those posts that exist and are not deleted. Reads each shard once. */
export async function alivePostIds(db: Database, posts: readonly FeedEntry[]): Promise<Set<number>> {
  const sharding = await db.sharding();
  const alive = new Set<number>();
  for (const group of posts.length > 0 ? sharding.group(posts, (post) => post.authorId) : [])
    for (const { id, deleted } of await storedPosts(db, group)) if (!deleted) alive.add(id);
  return alive;
}

/** Returns the newest posts of each author, in rising order. In: authors, limit. */
export async function newestPosts(
  db: Queryable,
  authorIds: readonly number[],
  limit: number,
): Promise<{ authorId: number; postIds: number[] }[]> {
  const { rows } = await db.query<{ authorId: number; ids: string[] }>(
    `select a.id as "authorId", array(
       select id from (select id from posts where author_id = a.id and deleted_at is null
                       order by id desc limit $2) newest order by id) as ids
     from users a where a.id = any($1)`,
    [authorIds, limit],
  );
  return rows.map((row) => ({ authorId: row.authorId, postIds: row.ids.map(Number) }));
}

/** Returns an author's newest posts below `before`, newest first. */
export async function postsOf(
  db: Queryable,
  query: { authorId: number; before: number; limit: number },
): Promise<Post[]> {
  const { rows } = await db.query<Post>(
    `select id, author_id as "authorId", body, created_at as "createdAt", version
     from posts where author_id = $1 and id < $2 and deleted_at is null order by id desc limit $3`,
    [query.authorId, query.before, query.limit],
  );
  return rows;
}

/** Throws POST_NOT_FOUND. */
export async function getPost(db: Queryable, id: number): Promise<Post> {
  const { rows } = await db.query<Post>(
    `select id, author_id as "authorId", body, created_at as "createdAt", version
     from posts where id = $1 and deleted_at is null`,
    [id],
  );
  if (!rows[0]) throw new FeedctlError('POST_NOT_FOUND', `there is no post ${id}`);
  return rows[0];
}

/** Returns ids of an author's newest posts above one, newest first. */
export async function newestPostsAbove(
  db: Queryable,
  authorId: number,
  above: number,
  limit: number,
): Promise<number[]> {
  const { rows } = await db.query<{ id: number }>(
    'select id from posts where author_id = $1 and id > $2 and deleted_at is null order by id desc limit $3',
    [authorId, above, limit],
  );
  return rows.map((row) => row.id);
}

export interface ImportedPost {
  readonly id: number;
  readonly authorId: number;
  readonly body: string;
  readonly createdAtMs: number;
  readonly eventId: number;
}

/**
 * Inserts posts. Returns the new ids. In, as arrays of equal length: post ids, authors, bodies,
 * unix milliseconds.
 */
const IMPORT = `
  insert into posts (id, author_id, body, created_at)
  select p.id, p.author_id, p.body, to_timestamp(p.ms / 1000.0)
  from unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[]) p(id, author_id, body, ms)
  on conflict do nothing returning id`;

type Publish = (session: Session, events: readonly EventRef[]) => Promise<void>;

/** Shards that an import writes concurrently. */
const IMPORT_CONCURRENCY = 4;

/**
 * Inserts posts with their own times and their events, in one transaction per shard. Existing posts
 * stay as they are, without a second event. Returns the new events.
 *
 * `publish`: publishes them within the transaction, so that they count as dispatched; only without
 * shards, see `dispatchWithin`. `committed`: gets the events of each transaction after it.
 */
export async function importPosts(
  db: Database,
  posts: readonly ImportedPost[],
  options: { publish?: Publish | undefined; committed?: (events: readonly EventRef[]) => Promise<void> } = {},
): Promise<EventRef[]> {
  const groups = (await db.sharding()).group(posts, (post) => post.authorId);
  const written = await runConcurrently(groups, IMPORT_CONCURRENCY, async (group) => {
    const events = await importGroup(db, group, options.publish);
    await options.committed?.(events);
    return events;
  });
  return written.flat();
}

async function importGroup(
  db: Database,
  posts: readonly ImportedPost[],
  publish: Publish | undefined,
): Promise<EventRef[]> {
  const finish = async (session: Session, written: readonly ImportedPost[]) => {
    const events = written.map(eventRef);
    if (events.length === 0) return events;
    await copyEvents(session, written, publish !== undefined);
    await publish?.(session, events);
    return events;
  };
  try {
    return await db.transaction(async (session) => {
      const columns = 'author_id, id, body, created_at';
      await copyIn(session, `copy posts (${columns}) from stdin (format binary)`, [postRows(posts)]);
      return finish(session, posts);
    });
  } catch (error) {
    // COPY inserts all rows or none. A batch that was imported before, even in part, is inserted
    // row by row.
    if (!isDuplicate(error)) throw error;
  }
  return db.transaction(async (session) => {
    const { rows } = await session.query<{ id: number }>(IMPORT, [
      posts.map((post) => post.id),
      posts.map((post) => post.authorId),
      posts.map((post) => post.body),
      posts.map((post) => post.createdAtMs),
    ]);
    const fresh = new Set(rows.map((row) => row.id));
    return finish(
      session,
      posts.filter((post) => fresh.has(post.id)),
    );
  });
}

const eventRef = (post: ImportedPost): EventRef => ({
  id: post.eventId,
  type: 'post.created',
  aggregateId: post.authorId,
  subjectId: post.id,
});

function postRows(posts: readonly ImportedPost[]): Buffer {
  const rows = new CopyRows(posts.length * 96);
  for (const post of posts)
    rows.row(4).bigint(post.authorId).bigint(post.id).text(post.body).timestamp(post.createdAtMs);
  return rows.bytes;
}

async function copyEvents(
  session: Session,
  posts: readonly ImportedPost[],
  dispatched: boolean,
): Promise<void> {
  const rows = new CopyRows(posts.length * 128);
  for (const post of posts) {
    // The time of the database, when the id was minted.
    const now = timeOfId(post.eventId);
    rows.row(7).bigint(post.eventId).bigint(post.authorId).bigint(post.id);
    rows.text('post.created').timestamp(now).jsonb({ text: post.body });
    if (dispatched) rows.timestamp(now);
    else rows.null();
  }
  const columns = 'id, aggregate_id, subject_id, type, occurred_at, data, dispatched_at';
  await copyIn(session, `copy events (${columns}) from stdin (format binary)`, [rows.bytes]);
}
