import type { Queryable } from '../database/database.ts';
import { FeedctlError } from '../model/errors.ts';
import type { OperationInput, OperationState } from '../model/operation.ts';
import { tenths } from '../util/numbers.ts';
import { HELD_LOCKS, LOCK_NAME, OPERATIONS_CHANNEL, REBUILD } from './run.ts';

/** An operation as operators see it. */
export interface OperationRow {
  readonly id: number;
  readonly kind: string;
  readonly key: string;
  readonly state: OperationState;
  /** `user@host`. null: not known. */
  readonly who: string | null;
  /** Command line without the flags that name the cluster. null: no command started it. */
  readonly command: string | null;
  readonly startedAt: Date;
  /** Start of the last run. */
  readonly resumedAt: Date;
  readonly runs: number;
  readonly finishedAt: Date | null;
  /** null: the operation has saved no counts. */
  readonly progress: OperationProgress | null;
  readonly result: { readonly [name: string]: unknown } | null;
  /** Error of a failed operation. */
  readonly error: { readonly code: string; readonly message: string } | null;
  /** Work that would stay half done if it ended now, and how to fix it: it cannot be cancelled. */
  readonly halfDone: string | null;
  /** Pause of an operator that the operation waits for. */
  readonly waitsFor: string | null;
  /** Time from which it is to stop at its next safe point. */
  readonly cancelRequestedAt: Date | null;
  readonly cancelledBy: string | null;
}

export interface OperationProgress {
  readonly done: number;
  readonly total: number | null;
  readonly unit: string;
  /** Units per second since the last run began. */
  readonly rate: number | null;
  /** null: it is not running, or the rate is not known. */
  readonly etaSeconds: number | null;
}

/** Command that runs an operation again. */
export interface OperationCommand {
  readonly id: string;
  readonly args: readonly string[];
  readonly inputs: readonly OperationInput[];
}

/** In: conditions and order. An operation in state `running` whose lock is free is `interrupted`. */
const operations = (rest: string): string => `
  with held as ${HELD_LOCKS}, listed as (
    select *, case when state <> 'running' or exists (
        select from held where lock = hashtextextended(${LOCK_NAME}, 0))
      then state else 'interrupted' end as shown from operations
  )
  select id, kind, key, shown as state, who, command, args, inputs, started_at as "startedAt",
         resumed_at as "resumedAt", runs, finished_at as "finishedAt", done, total, unit,
         case when noted_at > resumed_at
           then (done - done_before) / extract(epoch from noted_at - resumed_at)::float8 end as rate,
         case when shown = 'running' and kind = '${REBUILD}' and
           exists (select from fanout_lanes where lane = 'bulk' and paused_at is not null)
         then 'the bulk lane of fan-out, which is paused' end as "waitsFor",
         result, error, half_done as "halfDone", cancel_requested_at as "cancelRequestedAt",
         cancelled_by as "cancelledBy"
  from listed ${rest}`;

interface Row extends Omit<OperationRow, 'progress' | 'command'> {
  readonly command: string | null;
  readonly args: readonly string[];
  readonly inputs: readonly OperationInput[];
  readonly done: number | null;
  readonly total: number | null;
  readonly unit: string | null;
  readonly rate: number | null;
}

const word = (text: string): string =>
  /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;

function shown({ args, inputs: _, done, total, unit, rate, command, ...row }: Row): OperationRow {
  const left = total !== null && done !== null && rate ? Math.max(0, total - done) / rate : null;
  const progress =
    done === null
      ? null
      : {
          done,
          total,
          unit: unit ?? '',
          rate: rate === null ? null : tenths(rate),
          etaSeconds: row.state === 'running' && left !== null ? Math.round(left) : null,
        };
  const line = command && [...command.split(':'), ...args.map(word)].join(' ');
  return { ...row, command: line, progress };
}

export interface OperationFilter {
  readonly states?: readonly OperationState[] | undefined;
  readonly kind?: string | undefined;
  readonly limit: number;
}

/** Returns the newest operations first. */
export async function listOperations(db: Queryable, filter: OperationFilter): Promise<OperationRow[]> {
  const { rows } = await db.query<Row>(
    operations(
      `where ($1::text[] is null or shown = any($1)) and ($2::text is null or kind = $2)
       order by id desc limit $3`,
    ),
    [filter.states ?? null, filter.kind ?? null, filter.limit],
  );
  return rows.map(shown);
}

/** Returns the newest operations that began, resumed or ended since a time. undefined: of all. */
export async function operationsSince(
  db: Queryable,
  since: Date | undefined,
  limit: number,
): Promise<OperationRow[]> {
  const { rows } = await db.query<Row>(
    operations(
      `where $1::timestamptz is null or greatest(resumed_at, finished_at) >= $1
       order by greatest(resumed_at, finished_at) desc limit $2`,
    ),
    [since ?? null, limit],
  );
  return rows.map(shown);
}

/** Throws OPERATION_NOT_FOUND. */
export async function getOperation(db: Queryable, id: number): Promise<OperationRow> {
  return shown(await readRow(db, id));
}

async function readRow(db: Queryable, id: number): Promise<Row> {
  const { rows } = await db.query<Row>(operations('where id = $1'), [id]);
  if (!rows[0]) throw new FeedctlError('OPERATION_NOT_FOUND', `there is no operation ${id}`);
  return rows[0];
}

/**
 * Returns an operation and the command that runs it again. `later`: newest operation of the same work.
 * Throws OPERATION_NOT_FOUND.
 */
export async function getCommand(
  db: Queryable,
  id: number,
): Promise<{ operation: OperationRow; command: OperationCommand | undefined; later: number | undefined }> {
  const row = await readRow(db, id);
  const { rows } = await db.query<{ later: number | null }>(
    'select max(id) as later from operations where kind = $1 and key = $2 and id > $3',
    [row.kind, row.key, id],
  );
  return {
    operation: shown(row),
    command: row.command === null ? undefined : { id: row.command, args: row.args, inputs: row.inputs },
    later: rows[0]!.later ?? undefined,
  };
}

/** Asks a running operation to stop. Returns false if it has ended or refuses cancellation. */
export async function requestCancel(db: Queryable, id: number, by: string): Promise<boolean> {
  const { rowCount } = await db.query(
    `update operations set cancel_requested_at = coalesce(cancel_requested_at, now()),
       cancelled_by = coalesce(cancelled_by, $2)
     where id = $1 and state = 'running' and half_done is null`,
    [id, by],
  );
  if (rowCount !== 1) return false;
  await db.query('select pg_notify($1, $2)', [OPERATIONS_CHANNEL, String(id)]);
  return true;
}

/**
 * Cancels an operation that is not running, under its lock. Returns false if a process has resumed
 * it, or if it refuses cancellation.
 */
export async function cancelInterrupted(db: Queryable, id: number, by: string): Promise<boolean> {
  const { rowCount } = await db.query(
    `update operations set state = 'cancelled', finished_at = now(),
       cancelled_by = coalesce(cancelled_by, $2), cancel_requested_at = coalesce(cancel_requested_at, now())
     where id = $1 and state in ('running', 'failed') and half_done is null
       and pg_try_advisory_xact_lock(hashtextextended(${LOCK_NAME}, 0))`,
    [id, by],
  );
  return rowCount === 1;
}
