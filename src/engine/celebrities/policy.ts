import type { Database, Queryable } from '../database/database.ts';
import { type CelebrityRule, celebrityRule, DEFAULT_CELEBRITY_THRESHOLD } from '../model/celebrity.ts';

/** Default rule of evaluations, and whether workers evaluate automatically. */
export interface CelebrityPolicy extends CelebrityRule {
  readonly automatic: boolean;
  /** Seconds from the end of an automatic evaluation to the next one. */
  readonly everySeconds: number;
}

const DEFAULT_POLICY: CelebrityPolicy = {
  ...celebrityRule(DEFAULT_CELEBRITY_THRESHOLD),
  automatic: false,
  everySeconds: 3_600,
};
const POLICY = 'celebrity.policy';
const EVALUATED_AT = 'celebrity.evaluatedAt';

const WRITE = `
  insert into settings (name, value) values ($1, $2) on conflict (name) do update set value = excluded.value`;

export async function readCelebrityPolicy(db: Queryable): Promise<CelebrityPolicy> {
  const { rows } = await db.query<{ value: Partial<CelebrityPolicy> }>(
    'select value from settings where name = $1',
    [POLICY],
  );
  return { ...DEFAULT_POLICY, ...rows[0]?.value };
}

/** Changes the policy in one transaction. Returns the new policy. */
export async function changeCelebrityPolicy(
  db: Database,
  change: (policy: CelebrityPolicy) => CelebrityPolicy,
): Promise<CelebrityPolicy> {
  return db.transaction(async (session) => {
    await session.query(`select pg_advisory_xact_lock(hashtext($1))`, [POLICY]);
    const policy = change(await readCelebrityPolicy(session));
    await session.query(WRITE, [POLICY, JSON.stringify(policy)]);
    return policy;
  });
}

/** Returns the end of the last automatic evaluation. null: none. */
export async function lastEvaluation(db: Queryable): Promise<Date | null> {
  const { rows } = await db.query<{ at: Date }>(
    `select (value #>> '{}')::timestamptz as at from settings where name = $1`,
    [EVALUATED_AT],
  );
  return rows[0]?.at ?? null;
}

/** Compares by the database's clock, which all workers share. */
export async function evaluationIsDue(db: Queryable, everySeconds: number): Promise<boolean> {
  const { rowCount } = await db.query(
    `select 1 from settings where name = $1 and (value #>> '{}')::timestamptz > now() - $2 * interval '1 s'`,
    [EVALUATED_AT, everySeconds],
  );
  return rowCount === 0;
}

export async function saveEvaluation(db: Queryable): Promise<void> {
  await db.query(
    `insert into settings (name, value) values ($1, to_jsonb(clock_timestamp()))
     on conflict (name) do update set value = excluded.value`,
    [EVALUATED_AT],
  );
}
