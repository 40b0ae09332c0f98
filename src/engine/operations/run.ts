import type { Database, Queryable, Session } from '../database/database.ts';
import { FeedctlError, isFeedctlError, messageOf } from '../model/errors.ts';
import type { OperationCounts, OperationInput } from '../model/operation.ts';

/** A piece of long work: what it is, how far it has come, and what came of it. */
export interface Operation<Progress> {
  readonly id: number;
  /** Of an earlier run that did not end. */
  readonly progress: Progress | undefined;
  /** When that run, or this one, began. */
  readonly startedAt: Date;
  /**
   * Aborts where the work is to end at its next safe point: the caller's signal, `operation cancel` from anywhere, or the
   * lock is lost.
   */
  readonly signal: AbortSignal;
  /**
   * Says what would stay half done if the work ended now, and how that is mended: from then on it cannot be cancelled.
   * null: it may end. Throws OPERATION_CANCELLED where that was asked for before.
   */
  blockCancel(what: string | null): Promise<void>;
}

export interface Work {
  readonly kind: string;
  /** Two runs of a kind and key are the same work. */
  readonly key: string;
  /** Ctrl-C: what is noted is gone on with by the next run. */
  readonly signal?: AbortSignal | undefined;
  /** Files that are read. */
  readonly inputs?: readonly OperationInput[];
  /** This run goes on with what an earlier one had noted. */
  readonly onResume?: ((operation: Operation<object>) => void) | undefined;
}

export const OPERATIONS_CHANNEL = 'feedctl_operations';
/** What its advisory lock is called. In SQL: the number that the lock has. */
export const LOCK_NAME = `'feedctl ' || kind || ' ' || key`;
/** In SQL: the advisory locks that are held. One of one bigint is listed as two halves. */
export const HELD_LOCKS = `(
    select (classid::bigint << 32) | objid::bigint as lock from pg_locks
    where locktype = 'advisory' and objsubid = 1 and granted
      and database = (select oid from pg_database where datname = current_database()))`;
/** Should the notification of a cancellation be lost; and a lock whose session is gone is noticed. */
const POLL_MS = 5_000;

/**
 * Runs work that is resumable and that excludes itself: one run of a kind and key at a time, in the whole cluster.
 * The lock is a session's, so it is gone with a process that is killed; what that one had noted is resumed, and so is
 * what failed. What ends with exit status 3 (interrupted) stays to be gone on with; another failure is noted as such.
 * Throws OPERATION_RUNNING, OPERATION_CANCELLED and what the work throws.
 */
export async function runOperation<Progress extends object, Result>(
  db: Database,
  work: Work,
  run: (operation: Operation<Progress>) => Promise<Result>,
): Promise<Result> {
  const held = async (session: Session) => {
    const lock = `feedctl ${work.kind} ${work.key}`;
    const { rows } = await session.query<{ mine: boolean }>(
      'select pg_try_advisory_lock(hashtextextended($1, 0)) as mine',
      [lock],
    );
    if (!rows[0]!.mine)
      throw new FeedctlError('OPERATION_RUNNING', `another ${work.kind} of the same work is running`);
    try {
      return await runHeld(db, session, work, run);
    } finally {
      await session.query('select pg_advisory_unlock(hashtextextended($1, 0))', [lock]).catch(() => {});
    }
  };
  // The session does nothing but hold the lock, for as long as the work takes.
  return db.withSession(held, { deadlineMs: 0 });
}

async function runHeld<Progress extends object, Result>(
  db: Database,
  session: Session,
  work: Work,
  run: (operation: Operation<Progress>) => Promise<Result>,
): Promise<Result> {
  const noted = await begin<Progress>(db, session, work);
  const watch = await watchOperation(session, noted.id, work.signal);
  const operation: Operation<Progress> = {
    ...noted,
    signal: watch.signal,
    blockCancel: (what) => saveBlockCancel(session, noted.id, what),
  };
  try {
    if (noted.runs > 1) work.onResume?.(operation as Operation<object>);
    const result = await run(operation);
    await session.query(
      `update operations set state = 'done', result = $2, half_done = null, finished_at = now() where id = $1`,
      [noted.id, JSON.stringify(result)],
    );
    return result;
  } catch (error) {
    // What the work throws when it is told to end is no more than that.
    const ended = work.signal?.aborted ? error : (watch.why() ?? error);
    await saveFailure(session, noted.id, ended, work.signal).catch(() => {});
    throw ended;
  } finally {
    await watch.end();
  }
}

interface SavedOperation<Progress> {
  readonly id: number;
  readonly progress: Progress | undefined;
  readonly startedAt: Date;
  readonly runs: number;
}

/** In: operation, who, command, args, inputs. What was asked of an earlier run does not concern this one. */
const TAKE_UP = `
  update operations set state = 'running', resumed_at = now(), runs = runs + 1, done_before = coalesce(done, 0),
    noted_at = null, cancel_requested_at = null, cancelled_by = null, error = null, finished_at = null,
    who = $2, command = coalesce($3, command), args = case when $3::text is null then args else $4 end, inputs = $5
  where id = $1 and state in ('running', 'failed')
  returning id, nullif(progress, '{}') as progress, started_at as "startedAt", runs`;

const INSERT = `
  insert into operations (kind, key, state, who, command, args, inputs) values ($1, $2, 'running', $3, $4, $5, $6)
  returning id, null as progress, started_at as "startedAt", runs`;

async function begin<Progress>(
  db: Database,
  session: Queryable,
  work: Work,
): Promise<SavedOperation<Progress>> {
  const { who = null, command } = db.invocation ?? {};
  const by = [who, command?.id ?? null, command?.args ?? [], JSON.stringify(work.inputs ?? [])];
  const last = await session.query<{ id: number }>(
    `select id from operations where kind = $1 and key = $2 order by id desc limit 1`,
    [work.kind, work.key],
  );
  type Row = SavedOperation<Progress> & { progress: Progress | null };
  const taken = last.rows[0] && (await session.query<Row>(TAKE_UP, [last.rows[0].id, ...by])).rows[0];
  const row = taken ?? (await session.query<Row>(INSERT, [work.kind, work.key, ...by])).rows[0]!;
  return { ...row, progress: row.progress ?? undefined };
}

/** Listens on the session that holds the lock. */
async function watchOperation(
  session: Session,
  id: number,
  stop: AbortSignal | undefined,
): Promise<{ signal: AbortSignal; why(): FeedctlError | undefined; end(): Promise<void> }> {
  const ended = new AbortController();
  const end = (why: FeedctlError) => ended.abort(why);
  const onLost = () =>
    end(new FeedctlError('DATABASE_UNREACHABLE', 'the session that held the operation is gone'));
  const look = async () => {
    const { rows } = await session.query<{ by: string | null }>(
      'select cancelled_by as by from operations where id = $1 and cancel_requested_at is not null',
      [id],
    );
    if (rows[0]) end(cancellation(id, rows[0].by));
  };
  const onNotify = ({ payload }: { payload?: string | undefined }) => {
    if (payload === String(id)) void look().catch(onLost);
  };
  session.on('notification', onNotify);
  session.on('error', onLost);
  await session.query(`listen ${OPERATIONS_CHANNEL}`);
  const looking = setInterval(() => void look().catch(onLost), POLL_MS);
  return {
    signal: stop ? AbortSignal.any([stop, ended.signal]) : ended.signal,
    why: () => ended.signal.reason,
    end: async () => {
      clearInterval(looking);
      session.off('notification', onNotify);
      session.off('error', onLost);
      await session.query(`unlisten ${OPERATIONS_CHANNEL}`).catch(() => {});
    },
  };
}

const cancellation = (id: number, by: string | null): FeedctlError =>
  new FeedctlError('OPERATION_CANCELLED', `operation ${id} was cancelled by ${by ?? 'somebody'}`);

/** Cancelling looks at the same row: whichever statement comes first wins. */
async function saveBlockCancel(session: Queryable, id: number, what: string | null): Promise<void> {
  const { rows } = await session.query<{ by: string | null; cancelled: boolean }>(
    `update operations set half_done = case when cancel_requested_at is null then $2 end where id = $1
     returning cancelled_by as by, cancel_requested_at is not null as cancelled`,
    [id, what],
  );
  if (what !== null && rows[0]?.cancelled) throw cancellation(id, rows[0].by);
}

/** What was interrupted, by a signal or in a way that the next run goes on from, stays as it is. */
async function saveFailure(
  session: Queryable,
  id: number,
  error: unknown,
  signal: AbortSignal | undefined,
): Promise<void> {
  const state = isFeedctlError(error, 'OPERATION_CANCELLED') ? 'cancelled' : 'failed';
  if (state === 'failed' && (signal?.aborted || (isFeedctlError(error) && error.exitStatus === 3))) return;
  const code = isFeedctlError(error) ? error.code : 'INTERNAL';
  await session.query(
    `update operations set state = $2, error = $3, finished_at = now() where id = $1 and state = 'running'`,
    [id, state, state === 'failed' ? JSON.stringify({ code, message: messageOf(error) }) : null],
  );
}

/** `progress` is what a run that comes after goes on from, `counts` what people are shown. */
export async function saveProgress(
  db: Queryable,
  operationId: number,
  progress: object,
  counts?: OperationCounts,
): Promise<void> {
  await db.query(
    `update operations set progress = $2, noted_at = now(),
       done = coalesce($3, done), total = coalesce($4, total), unit = coalesce($5, unit) where id = $1`,
    [
      operationId,
      JSON.stringify(progress),
      counts?.done ?? null,
      counts?.total ?? null,
      counts?.unit ?? null,
    ],
  );
}

/**
 * The same for one lane of work that goes on in several, whose progress is `{lanes: […], seconds}`: what the others note at
 * the same time stays. `done`: by this lane since it last noted.
 */
export async function saveLane(
  db: Queryable,
  operationId: number,
  { index, lane, done, seconds }: { index: number; lane: object; done: number; seconds: number },
): Promise<void> {
  await db.query(
    `update operations set noted_at = now(), done = coalesce(done, 0) + $4,
       progress = jsonb_set(progress, array['lanes', $2::text], $3) || jsonb_build_object('seconds', $5::float8)
     where id = $1`,
    [operationId, index, JSON.stringify(lane), done, seconds],
  );
}

/** What was half done has been ended otherwise: operations that said so may be cancelled. */
export async function checkCancelled(db: Queryable, halfDone: string): Promise<void> {
  await db.query('update operations set half_done = null where half_done = $1', [halfDone]);
}

/** Rebuilds of many feeds: they write feed rows beside the workers. */
export const REBUILD = 'rebuild';

/** How many operations of a kind somebody works on now. */
export async function countRunning(db: Queryable, kind: string): Promise<number> {
  const { rows } = await db.query<{ count: number }>(
    `select count(*) as count from operations
     where kind = $1 and state = 'running' and exists (
       select from ${HELD_LOCKS} held where held.lock = hashtextextended(${LOCK_NAME}, 0))`,
    [kind],
  );
  return rows[0]!.count;
}

/** The newest operation of that work, in whatever state. */
export async function lastOperation(db: Queryable, kind: string, key: string): Promise<number | undefined> {
  const { rows } = await db.query<{ id: number }>(
    'select id from operations where kind = $1 and key = $2 order by id desc limit 1',
    [kind, key],
  );
  return rows[0]?.id;
}
