import { createHash } from 'node:crypto';
import { CopyRows, copyIn } from '../database/copy.ts';
import type { Database } from '../database/database.ts';
import { isDuplicate } from '../database/errors.ts';
import type { Queryable, Session } from '../database/types.ts';
import { FeedctlError } from '../model/errors.ts';
import type { EventRef } from '../model/event.ts';
import type { FeedEntry } from '../model/feed.ts';
import type { Post, StoredPost } from '../model/post.ts';
import { runConcurrently } from '../util/parallel.ts';
import { postOfKey } from './idempotency.ts';

interface NewPost {
  readonly id: number;
  readonly authorId: number;
  readonly body: string;
  readonly eventId: number;
  /** Kept with the event: whoever dispatches it, the trace goes on. */
  readonly traceparent?: string | undefined;
}

/**
 * A post and its event, in one statement of the author's shard: both are there or neither. In: post id, author,
 * body, event id, traceparent. No row comes back where the author is no user.
 */
const CREATE = `
  with author as (select id from users where id = $2),
  post as (insert into posts (author_id, id, body, created_at)
           select id, $1, $3, clock_timestamp() from author returning *),
  event as (insert into events (id, aggregate_id, subject_id, type, occurred_at, data, traceparent)
            select $4, author_id, id, 'post.created', created_at, jsonb_build_object('text', body), $5::text from post)
  select id, author_id as "authorId", body, created_at as "createdAt", version from post`;

/**
 * The same for a key that its author may use once, whichever of several such statements comes first. In besides: key,
 * hash of the text. No row comes back where the key is taken.
 */
const CREATE_ONCE = `
  with author as (select id from users where id = $2),
  claim as (insert into idempotency_keys (author_id, key, post_id, text_hash)
            select id, $6, $1, $7 from author on conflict do nothing returning author_id),
  post as (insert into posts (author_id, id, body, created_at)
           select author_id, $1, $3, clock_timestamp() from claim returning *),
  event as (insert into events (id, aggregate_id, subject_id, type, occurred_at, data, traceparent)
            select $4, author_id, id, 'post.created', created_at, jsonb_build_object('text', body), $5::text from post)
  select id, author_id as "authorId", body, created_at as "createdAt", version from post`;

/**
 * The post that is made with this key: this one, or the one that was made with it before. Throws USER_NOT_FOUND, or
 * IDEMPOTENCY_KEY_REUSED where that one had another text.
 */
export async function insertPostOnce(db: Queryable, post: NewPost & { key: string }): Promise<Post> {
  const textHash = createHash('sha256').update(post.body).digest();
  const { rows } = await db.query<Post>(CREATE_ONCE, [
    post.id,
    post.authorId,
    post.body,
    post.eventId,
    post.traceparent ?? null,
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
  // As it was answered then, whatever has become of the post.
  return { id: before.id, authorId: post.authorId, body: post.body, createdAt: before.createdAt, version: 1 };
}

/** `again`: a try before may have written this post, and only its answer been lost. Throws USER_NOT_FOUND. */
export async function insertPost(db: Queryable, post: NewPost, again = false): Promise<Post> {
  let rows: Post[];
  try {
    ({ rows } = await db.query<Post>(CREATE, [
      post.id,
      post.authorId,
      post.body,
      post.eventId,
      post.traceparent ?? null,
    ]));
  } catch (error) {
    if (again && isDuplicate(error)) return getPost(db, post.id);
    throw error;
  }
  if (!rows[0]) throw new FeedctlError('USER_NOT_FOUND', `there is no user ${post.authorId}`);
  return rows[0];
}

/** In: author, post id, body, event id, expected version (null: any). */
const UPDATE = `
  with post as (update posts set body = $3, version = version + 1
                where author_id = $1 and id = $2 and deleted_at is null and version = coalesce($5, version) returning *),
  event as (insert into events (id, aggregate_id, subject_id, type, version, occurred_at, data)
            select $4, author_id, id, 'post.updated', version, clock_timestamp(), jsonb_build_object('text', body) from post)
  select id, author_id as "authorId", body, created_at as "createdAt", version from post`;

/** undefined where the post is gone, or has another version than the one expected. */
export async function updatePostBody(
  db: Queryable,
  post: { id: number; authorId: number; body: string; eventId: number; version?: number },
): Promise<Post | undefined> {
  const { rows } = await db.query<Post>(UPDATE, [
    post.authorId,
    post.id,
    post.body,
    post.eventId,
    post.version ?? null,
  ]);
  return rows[0];
}

/** In: author, post id, event id. */
const DELETE = `
  with post as (update posts set deleted_at = now(), version = version + 1
                where author_id = $1 and id = $2 and deleted_at is null returning *),
  event as (insert into events (id, aggregate_id, subject_id, type, occurred_at, data)
            select $3, author_id, id, 'post.deleted', deleted_at, '{}' from post)
  select id from post`;

/** Throws POST_NOT_FOUND, for a post that is deleted already too. */
export async function markPostDeleted(
  db: Queryable,
  post: { id: number; authorId: number; eventId: number },
): Promise<void> {
  const { rowCount } = await db.query(DELETE, [post.authorId, post.id, post.eventId]);
  if (rowCount === 0) throw new FeedctlError('POST_NOT_FOUND', `there is no post ${post.id}`);
}

/** undefined where it is deleted. */
export async function findPost(db: Queryable, post: FeedEntry): Promise<Post | undefined> {
  const { rows } = await db.query<Post>(
    `select id, author_id as "authorId", body, created_at as "createdAt", version
     from posts where author_id = $1 and id = $2 and deleted_at is null`,
    [post.authorId, post.postId],
  );
  return rows[0];
}

/** Those of the posts that are there, deleted ones too. */
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

/** The newest posts of each author, in rising order. In: authors, limit. */
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

/** Ids of an author's newest posts above one, newest first. */
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

/** In, as arrays of equal length: post ids, authors, bodies, unix milliseconds. Returns the ids that are new. */
const IMPORT = `
  insert into posts (id, author_id, body, created_at)
  select p.id, p.author_id, p.body, to_timestamp(p.ms / 1000.0)
  from unnest($1::bigint[], $2::bigint[], $3::text[], $4::bigint[]) p(id, author_id, body, ms)
  on conflict do nothing returning id`;

type Publish = (session: Session, events: readonly EventRef[]) => Promise<void>;

/** Shards that an import writes at a time. */
const IMPORT_LANES = 4;

/**
 * Posts with their own time and their events, in one transaction for each shard. What is there already is left as it
 * is, and gets no second event. Returns the events that were written. `publish`: publishes them within the
 * transaction, so that they are dispatched from the start; where there are no shards, see `dispatchWithin`.
 * `committed`: is told of the events of each transaction after it.
 */
export async function importPosts(
  db: Database,
  posts: readonly ImportedPost[],
  options: { publish?: Publish | undefined; committed?: (events: readonly EventRef[]) => Promise<void> } = {},
): Promise<EventRef[]> {
  const groups = (await db.sharding()).group(posts, (post) => post.authorId);
  const written = await runConcurrently(groups, IMPORT_LANES, async (group) => {
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
    // COPY takes all or nothing: a batch that was imported before, in part or whole, goes row by row.
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
  const now = Date.now();
  const rows = new CopyRows(posts.length * 128);
  for (const post of posts) {
    rows.row(7).bigint(post.eventId).bigint(post.authorId).bigint(post.id);
    rows.text('post.created').timestamp(now).jsonb({ text: post.body });
    if (dispatched) rows.timestamp(now);
    else rows.null();
  }
  const columns = 'id, aggregate_id, subject_id, type, occurred_at, data, dispatched_at';
  await copyIn(session, `copy events (${columns}) from stdin (format binary)`, [rows.bytes]);
}
