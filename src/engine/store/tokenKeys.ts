import type { Database } from '../database/database.ts';
import type { Queryable } from '../database/types.ts';
import { FeedctlError } from '../model/errors.ts';

const SETTING = 'gateway.tokenKeys';

/** A key that signs tokens. The last one of the list is in use. */
export interface TokenKey {
  readonly id: string;
  /** Hexadecimal. */
  readonly secret: string;
  /**
   * ISO 8601. Tokens of this key are valid until then. Without it they are valid until they expire.
   */
  readonly until?: string;
}

/** Throws SCHEMA_MISSING. */
export async function readTokenKeys(db: Queryable): Promise<TokenKey[]> {
  return read(db, `select value from settings where name = $1`);
}

async function read(db: Queryable, statement: string): Promise<TokenKey[]> {
  const { rows } = await db.query<{ value: TokenKey[] }>(statement, [SETTING]);
  if (!rows[0]?.value.length) throw new FeedctlError('SCHEMA_MISSING', 'the database holds no token key');
  return rows[0].value;
}

/** Replaces the list by the result of `change`. Concurrent calls run one after the other. */
export async function changeTokenKeys(
  db: Database,
  change: (keys: readonly TokenKey[]) => TokenKey[],
): Promise<TokenKey[]> {
  return db.transaction(async (session) => {
    const changed = change(await read(session, `select value from settings where name = $1 for update`));
    await session.query('update settings set value = $2 where name = $1', [SETTING, JSON.stringify(changed)]);
    return changed;
  });
}
