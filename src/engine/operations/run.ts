import type { Database, Queryable, Session } from '../database/database.ts';
import { ERRORS, FeedctlError, isFeedctlError, messageOf } from '../model/errors.ts';
import type { OperationCounts, OperationInput } from '../model/operation.ts';

/** One run of long work. */
export interface Operation<Progress> {
  readonly id: number;
  /** Progress of an earlier run that this one resumes. */
  readonly progress: Progress | undefined;
  /** Start of the first run. */
  readonly startedAt: Date;
  /**
   * Aborts when the work has to end at its next safe point: the caller's signal aborts,
   * `operation cancel` was called in any process, or the lock is lost.
   */
  readonly signal: AbortSignal;
  /**
   * Refuses cancellation from now on. `halfDone` says what would stay half done, and how to
   * fix it. null: permits cancellation again. Throws OPERATION_CANCELLED if it was cancelled before.
   */
  blockCancel(halfDone: string | null): Promise<void>;
}

export interface Work {
  readonly kind: string;
  /** Two runs of a kind and key are the same work. */
  readonly key: string;
  /** Interrupts the run (Ctrl-C): the next run resumes from the saved progress. */
  readonly signal?: AbortSignal | undefined;
  /** Files that the work reads. */
  readonly inputs?: readonly OperationInput[];
  /** Called when this run resumes an earlier one. */
  readonly onResume?: ((operation: Operation<object>) => void) | undefined;
}

export const OPERATIONS_CHANNEL = 'feedctl_operations';
/** SQL: name of an operation's advisory lock. The lock's number is the hash of the name. */
export const LOCK_NAME = `'feedctl ' || kind || ' ' || key`;
/** SQL: numbers of the advisory locks that sessions hold. PostgreSQL lists a bigint as two halves. */
export const HELD_LOCKS = `(
    select (classid::bigint << 32) | objid::bigint as lock from pg_locks
    where locktype = 'advisory' and objsubid = 1 and granted
      and database = (select oid from pg_database where datname = current_database()))`;
/** Interval that finds a cancellation whose notification was lost, and a lock whose session has ended. */
const POLL_MS = 5_000;

/**
 * Runs resumable work, one run of a kind and key at a time in the whole cluster. A session's advisory
 * lock excludes other runs and ends with the process. The next run resumes one that was killed,
 * interrupted (exit status 3) or failed. Any other failure is saved with the operation.
 * Throws OPERATION_RUNNING, OPERATION_CANCELLED and the errors of `run`.
 */
export async function runOperation<Progress extends object, Result>(
  db: Database,
  work: Work,
  run: (operation: Operation<Progress>) => Promise<Result>,
): Promise<Result> {
  const runLocked = async (session: Session) => {
    const lock = `feedctl ${work.kind} ${work.key}`;
    const { rows } = await session.query<{ mine: boolean }>(
      'select pg_try_advisory_lock(hashtextextended($1, 0)) as mine',
      [lock],
    );
    if (!rows[0]!.mine)
      throw new FeedctlError('OPERATION_RUNNING', `another ${work.kind} of the same work is running`);
    try {
      return await runOn(db, session, work, run);
    } finally {
      await session.query('select pg_advisory_unlock(hashtextextended($1, 0))', [lock]).catch(() => {});
    }
  };
  // The session holds the lock for as long as the work takes, and does nothing else.
  return db.withSession(runLocked, { deadlineMs: 0 });
}

async function runOn<Progress extends object, Result>(
  db: Database,
  session: Session,
  work: Work,
  run: (operation: Operation<Progress>) => Promise<Result>,
): Promise<Result> {
  const saved = await begin<Progress>(db, session, work);
  const watch = await watchOperation(session, saved.id, work.signal);
  const operation: Operation<Progress> = {
    ...saved,
    signal: watch.signal,
    blockCancel: (halfDone) => saveBlockCancel(session, saved.id, halfDone),
  };
  try {
    if (saved.runs > 1) work.onResume?.(operation as Operation<object>);
    const result = await run(operation);
    await session.query(
      `update operations set state = 'done', result = $2, half_done = null, finished_at = now()
       where id = $1`,
      [saved.id, JSON.stringify(result)],
    );
    return result;
  } catch (error) {
    // An abort error of the work means less than the reason of the abort.
    const ended = work.signal?.aborted ? error : (watch.reason() ?? error);
    await saveFailure(session, saved.id, ended, work.signal).catch(() => {});
    // A role continues its work by itself, and knows its own aborts by their name.
    throw db.invocation?.command ? withResumption(ended, saved.id) : ended;
  } finally {
    await watch.end();
  }
}

/** Returns an interruption that suggests to resume the operation, unless the work suggests something else. */
function withResumption(error: unknown, id: number): unknown {
  const isAbort = (error as Error | undefined)?.name === 'AbortError';
  const isPlain = isFeedctlError(error, 'INTERRUPTED') && error.suggestions[0] === ERRORS.INTERRUPTED.fix;
  if (!isAbort && !isPlain) return error;
  const resume = `feedctl operation resume ${id}`;
  return new FeedctlError('INTERRUPTED', isPlain ? error.message : 'interrupted', {
    cause: error,
    suggestions: [`Run the same command again, or \`${resume}\`: it continues where it stopped.`],
  });
}

interface SavedOperation<Progress> {
  readonly id: number;
  readonly progress: Progress | undefined;
  readonly startedAt: Date;
  readonly runs: number;
}

/** In: operation, who, command, args, inputs. Clears a cancellation of an earlier run. */
const RESUME = `
  update operations set state = 'running', resumed_at = now(), runs = runs + 1,
    done_before = coalesce(done, 0), noted_at = null, cancel_requested_at = null, cancelled_by = null,
    error = null, finished_at = null, who = $2, command = coalesce($3, command),
    args = case when $3::text is null then args else $4 end, inputs = $5
  where id = $1 and state in ('running', 'failed')
  returning id, nullif(progress, '{}') as progress, started_at as "startedAt", runs`;

const INSERT = `
  insert into operations (kind, key, state, who, command, args, inputs)
  values ($1, $2, 'running', $3, $4, $5, $6)
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
  const taken = last.rows[0] && (await session.query<Row>(RESUME, [last.rows[0].id, ...by])).rows[0];
  const row = taken ?? (await session.query<Row>(INSERT, [work.kind, work.key, ...by])).rows[0]!;
  return { ...row, progress: row.progress ?? undefined };
}

/** Watches for a cancellation, on the session that holds the lock. */
async function watchOperation(
  session: Session,
  id: number,
  stop: AbortSignal | undefined,
): Promise<{ signal: AbortSignal; reason(): FeedctlError | undefined; end(): Promise<void> }> {
  const ended = new AbortController();
  const onLost = () =>
    ended.abort(new FeedctlError('DATABASE_UNREACHABLE', 'the session that holds the operation was lost'));
  const check = async () => {
    const { rows } = await session.query<{ by: string | null }>(
      'select cancelled_by as by from operations where id = $1 and cancel_requested_at is not null',
      [id],
    );
    if (rows[0]) ended.abort(cancellation(id, rows[0].by));
  };
  const onNotify = ({ payload }: { payload?: string | undefined }) => {
    if (payload === String(id)) void check().catch(onLost);
  };
  session.on('notification', onNotify);
  session.on('error', onLost);
  await session.query(`listen ${OPERATIONS_CHANNEL}`);
  const checking = setInterval(() => void check().catch(onLost), POLL_MS);
  return {
    signal: stop ? AbortSignal.any([stop, ended.signal]) : ended.signal,
    reason: () => ended.signal.reason,
    end: async () => {
      clearInterval(checking);
      session.off('notification', onNotify);
      session.off('error', onLost);
      await session.query(`unlisten ${OPERATIONS_CHANNEL}`).catch(() => {});
    },
  };
}

const cancellation = (id: number, by: string | null): FeedctlError =>
  new FeedctlError('OPERATION_CANCELLED', `operation ${id} was cancelled by ${by ?? 'an unknown user'}`);

/** `requestCancel` updates the same row: the statement that runs first wins. */
async function saveBlockCancel(session: Queryable, id: number, halfDone: string | null): Promise<void> {
  const { rows } = await session.query<{ by: string | null; cancelled: boolean }>(
    `update operations set half_done = case when cancel_requested_at is null then $2 end where id = $1
     returning cancelled_by as by, cancel_requested_at is not null as cancelled`,
    [id, halfDone],
  );
  if (halfDone !== null && rows[0]?.cancelled) throw cancellation(id, rows[0].by);
}

/** Saves why an operation ended. An interrupted one stays as it is, for the next run. */
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

/** Saves `progress`, which a later run resumes from, and `counts`, which operators see. */
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
 * Saves the progress of one of several concurrent parts, whose progress is `{lanes: […], seconds}`.
 * Other parts may save theirs at the same time. `done`: units that this part did since its last save.
 */
export async function saveLane(
  db: Queryable,
  operationId: number,
  { index, lane, done, seconds }: { index: number; lane: object; done: number; seconds: number },
): Promise<void> {
  await db.query(
    `update operations set noted_at = now(), done = coalesce(done, 0) + $4,
       progress = jsonb_set(progress, array['lanes', $2::text], $3)
         || jsonb_build_object('seconds', $5::float8)
     where id = $1`,
    [operationId, index, JSON.stringify(lane), done, seconds],
  );
}

/** Permits cancellation of operations whose half-done work another operation has finished. */
export async function permitCancel(db: Queryable, halfDone: string): Promise<void> {
  await db.query('update operations set half_done = null where half_done = $1', [halfDone]);
}

/** Kind of the rebuilds of many feeds, which write feed rows besides the workers. */
export const REBUILD = 'rebuild';

/** Returns how many operations of a kind are running. */
export async function countRunning(db: Queryable, kind: string): Promise<number> {
  const { rows } = await db.query<{ count: number }>(
    `select count(*) as count from operations
     where kind = $1 and state = 'running' and exists (
       select from ${HELD_LOCKS} held where held.lock = hashtextextended(${LOCK_NAME}, 0))`,
    [kind],
  );
  return rows[0]!.count;
}

/** Returns the newest operation of a kind and key, in any state. */
export async function lastOperation(db: Queryable, kind: string, key: string): Promise<number | undefined> {
  const { rows } = await db.query<{ id: number }>(
    'select id from operations where kind = $1 and key = $2 order by id desc limit 1',
    [kind, key],
  );
  return rows[0]?.id;
}
