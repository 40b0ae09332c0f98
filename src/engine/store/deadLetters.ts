import type { Database } from '../database/database.ts';
import type { Queryable, Session } from '../database/types.ts';

/** A dead-lettered message, without its body. */
export interface DeadLetter {
  readonly id: number;
  readonly queue: string;
  /** Failed attempts before it was dead-lettered. */
  readonly attempts: number;
  readonly reason: string;
  readonly diedAt: Date;
  readonly bytes: number;
}

export interface DeadLetterFilter {
  readonly ids?: readonly number[];
  /** `live`: the queues of all gateways. */
  readonly queue?: string;
  /** Part of the reason, case-insensitive. */
  readonly reason?: string;
  readonly since?: Date;
  readonly before?: Date;
  readonly exceptOfGateways?: boolean;
}

/**
 * In: ids, queue, part of the reason, from, before (null: any), and whether letters of gateways are
 * excluded.
 */
const MATCHES = `
  ($1::bigint[] is null or id = any($1))
  and ($2::text is null or regexp_replace(queue, '^live\\..*', 'live') = $2)
  and ($3::text is null or position(lower($3) in lower(reason)) > 0)
  and ($4::timestamptz is null or died_at >= $4) and ($5::timestamptz is null or died_at < $5)
  and not ($6::boolean and queue like 'live.%')`;

const values = ({ ids, queue, reason, since, before, exceptOfGateways }: DeadLetterFilter) => [
  ids ?? null,
  queue ?? null,
  reason ?? null,
  since ?? null,
  before ?? null,
  exceptOfGateways ?? false,
];

/** Returns the oldest letters first. */
export async function findDeadLetters(
  db: Queryable,
  filter: DeadLetterFilter,
  limit: number,
): Promise<{ total: number; letters: DeadLetter[] }> {
  const letters = await db.query<DeadLetter>(
    `select id, queue, attempts, reason, died_at as "diedAt", octet_length(body) as bytes
     from bus.dead_letters where ${MATCHES} order by died_at, id limit $7`,
    [...values(filter), limit],
  );
  const total = await db.query<{ total: number }>(
    `select count(*) as total from bus.dead_letters where ${MATCHES}`,
    values(filter),
  );
  return { total: total.rows[0]!.total, letters: letters.rows };
}

/** Returns the newest letters whose bodies contain these bytes, at most 100. */
export async function deadLettersHolding(
  db: Queryable,
  bytes: Buffer,
): Promise<(Omit<DeadLetter, 'bytes'> & { body: Buffer })[]> {
  const { rows } = await db.query<Omit<DeadLetter, 'bytes'> & { body: Buffer }>(
    `select id, queue, attempts, reason, died_at as "diedAt", body
     from bus.dead_letters where position($1::bytea in body) > 0 order by id desc limit 100`,
    [bytes],
  );
  return rows;
}

export async function deadLetterBody(db: Queryable, id: number): Promise<Buffer | undefined> {
  const { rows } = await db.query<{ body: Buffer }>('select body from bus.dead_letters where id = $1', [id]);
  return rows[0]?.body;
}

/**
 * Removes up to n dead letters when `work` has handled them, in one transaction. Locks them and
 * skips locked ones, so that two concurrent replays take different letters. Returns the number of
 * letters.
 */
export async function takeDeadLetters(
  db: Database,
  filter: DeadLetterFilter,
  limit: number,
  work: (session: Session, letters: readonly { queue: string; body: Buffer }[]) => Promise<void>,
): Promise<number> {
  return db.transaction(async (session) => {
    const { rows } = await session.query<{ id: number; queue: string; body: Buffer }>(
      `select id, queue, body from bus.dead_letters where ${MATCHES}
       order by died_at, id limit $7 for update skip locked`,
      [...values(filter), limit],
    );
    if (rows.length === 0) return 0;
    await work(session, rows);
    await session.query('delete from bus.dead_letters where id = any($1)', [rows.map((row) => row.id)]);
    return rows.length;
  });
}

export type NewDeadLetter = Omit<DeadLetter, 'bytes'> & { readonly body: Buffer };

/** Saves new letters. A broker may deliver one twice, so known ids are skipped. */
export async function keepDeadLetters(db: Database, letters: readonly NewDeadLetter[]): Promise<void> {
  await db.transaction(async (session) => {
    for (const { id, queue, body, attempts, reason, diedAt } of letters) {
      await session.query(
        `insert into bus.dead_letters (id, queue, body, attempts, reason, died_at)
         values ($1, $2, $3, $4, $5, $6) on conflict (id) do nothing`,
        [id, queue, body, attempts, reason, diedAt],
      );
    }
  });
}

/** Returns the number of letters per queue. Those of all gateways count as `live`. */
export async function countDeadLetters(db: Queryable): Promise<Map<string, number>> {
  const { rows } = await db.query<{ queue: string; count: number }>(
    `select regexp_replace(queue, '^live\\..*', 'live') as queue, count(*) as count
     from bus.dead_letters group by 1`,
  );
  return new Map(rows.map(({ queue, count }) => [queue, count]));
}

/** Returns whole letters in the order of their ids. */
export async function deadLettersAfter(
  db: Queryable,
  after: number,
  limit: number,
): Promise<{ id: number; body: Buffer }[]> {
  const { rows } = await db.query<{ id: number; body: Buffer }>(
    'select id, body from bus.dead_letters where id > $1 order by id limit $2',
    [after, limit],
  );
  return rows;
}

/** `body` undefined: deletes the letter. */
export async function replaceDeadLetter(db: Queryable, id: number, body: Buffer | undefined): Promise<void> {
  if (body) await db.query('update bus.dead_letters set body = $2 where id = $1', [id, body]);
  else await db.query('delete from bus.dead_letters where id = $1', [id]);
}

/**
 * Returns messages of all queues that wait in the database. Messages in a broker cannot be read.
 */
export async function waitingBodies(
  db: Queryable,
  after: number,
  limit: number,
): Promise<{ id: number; body: Buffer }[]> {
  const { rows } = await db.query<{ id: number; body: Buffer }>(
    'select id, body from bus.messages where id > $1 order by id limit $2',
    [after, limit],
  );
  return rows;
}
