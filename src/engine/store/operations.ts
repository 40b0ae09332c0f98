import { FeedctlError } from '../model/errors.ts';
import type { Database, Queryable } from './database.ts';

/** A piece of long work: what it is, how far it has come, and what came of it. */
export interface Operation<Progress> {
  readonly id: number;
  /** Of an earlier run that did not end. */
  readonly progress: Progress | undefined;
}

/**
 * Runs work that is resumable and that excludes itself: one run of a kind and key at a time, in the whole cluster.
 * The lock is a session's, so it is gone with a process that is killed; what that one had noted is resumed.
 * Throws OPERATION_RUNNING.
 */
export async function runOperation<Progress extends object, Result>(
  db: Database,
  work: { kind: string; key: string },
  run: (operation: Operation<Progress>) => Promise<Result>,
): Promise<Result> {
  return db.withSession(async (session) => {
    const lock = `feedctl ${work.kind} ${work.key}`;
    const { rows } = await session.query<{ mine: boolean }>(
      'select pg_try_advisory_lock(hashtextextended($1, 0)) as mine',
      [lock],
    );
    if (!rows[0]!.mine)
      throw new FeedctlError('OPERATION_RUNNING', `another ${work.kind} of the same work is running`);
    try {
      const operation = await begin<Progress>(session, work);
      const result = await run(operation);
      await session.query(
        `update operations set state = 'done', result = $2, finished_at = now() where id = $1`,
        [operation.id, JSON.stringify(result)],
      );
      return result;
    } finally {
      await session.query('select pg_advisory_unlock(hashtextextended($1, 0))', [lock]).catch(() => {});
    }
  });
}

async function begin<Progress>(
  session: Queryable,
  work: { kind: string; key: string },
): Promise<Operation<Progress>> {
  const open = await session.query<{ id: number; progress: Progress }>(
    `select id, progress from operations where kind = $1 and key = $2 and state = 'running' order by id desc limit 1`,
    [work.kind, work.key],
  );
  if (open.rows[0]) return open.rows[0];
  const made = await session.query<{ id: number }>(
    `insert into operations (kind, key, state) values ($1, $2, 'running') returning id`,
    [work.kind, work.key],
  );
  return { id: made.rows[0]!.id, progress: undefined };
}

export async function noteProgress(db: Queryable, operationId: number, progress: object): Promise<void> {
  await db.query('update operations set progress = $2 where id = $1', [
    operationId,
    JSON.stringify(progress),
  ]);
}
