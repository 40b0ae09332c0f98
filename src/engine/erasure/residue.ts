import type { Queryable } from '../database/database.ts';

/** A place where data of a user was found. */
export interface Residue {
  /** `table.column`, a queue, or `cache`. */
  readonly where: string;
  readonly count: number;
}

/** Out: the columns of all tables, without the parts of partitioned and distributed tables. */
const COLUMNS = `
  select n.nspname || '.' || c.relname as table, a.attname as column, format_type(a.atttypid, null) as type
  from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid
  where n.nspname in ('public', 'bus') and c.relkind in ('r', 'p') and not c.relispartition
    and a.attnum > 0 and not a.attisdropped
  order by 1, a.attnum`;

/** Conditions under which an id column contains user ids. */
const ONLY: Readonly<Record<string, string>> = {
  'public.events.subject_id': `type like 'follow.%'`,
};
/** Audit trail, which keeps the fact of the erasure. */
const AUDIT = 'public.operations';

/** Returns whether a bigint column contains user ids: `users.id`, and every `…_id` except `post_id`. */
const isUserId = (table: string, column: string): boolean =>
  table === 'public.users' ? column === 'id' : /_id$/.test(column) && column !== 'post_id';

/**
 * Condition on a text or JSON column. In: id ($1), text patterns ($2). A row with an owner column is
 * found by that: its texts belong to the owner.
 */
function textCondition(column: string, type: string, owned: boolean): string {
  const named =
    type === 'jsonb'
      ? `jsonb_path_exists(${column}, '$.** ? (@.type() == "object").keyvalue() ?
           (@.key like_regex "(user|author|follower|followee)_?id$" flag "i" &&
            (@.value == $id || @.value == $text))',
           jsonb_build_object('id', $1::bigint, 'text', $1::bigint::text), true)`
      : `${column}::text = $1::bigint::text`;
  if (owned) return type === 'jsonb' ? named : 'false';
  return `${named} or ${column}::text like any($2)`;
}

const quoted = (name: string): string => `"${name}"`;

/**
 * Scans every table for the user, one pass each: the id in id columns and in JSON under an id's name;
 * in tables without an owner column also the user's texts and the id as text. The database lists the
 * tables and columns, so that new ones are scanned too.
 */
export async function findResidue(
  db: Queryable,
  userId: number,
  texts: readonly string[] = [],
): Promise<Residue[]> {
  const { rows } = await db.query<{ table: string; column: string; type: string }>(COLUMNS);
  const found: Residue[] = [];
  for (const [table, columns] of Map.groupBy(rows, (row) => row.table)) {
    if (table === AUDIT) continue;
    const ids = columns.filter(({ column, type }) => type === 'bigint' && isUserId(table, column));
    const textColumns = columns.filter(
      ({ type }) => type === 'text' || type === 'jsonb' || type === 'text[]',
    );
    const conditions = [
      ...ids.map(({ column }) => {
        const only = ONLY[`${table}.${column}`];
        return [column, `${quoted(column)} = $1${only ? ` and ${only}` : ''}`];
      }),
      ...textColumns.map(({ column, type }) => [column, textCondition(quoted(column), type, ids.length > 0)]),
    ];
    if (conditions.length === 0) continue;
    const counts = conditions.map(([, condition], nth) => `count(*) filter (where ${condition}) as c${nth}`);
    const patterns = texts.map((text) => `%${text.replace(/[\\%_]/g, '\\$&')}%`);
    const [schema, name] = table.split('.') as [string, string];
    const counted = await db.query<Record<string, number>>(
      `select ${counts.join(', ')} from ${quoted(schema)}.${quoted(name)}
       where $1::bigint > 0 and $2::text[] is not null`,
      [userId, patterns],
    );
    for (const [nth, [column]] of conditions.entries()) {
      const count = counted.rows[0]![`c${nth}`]!;
      if (count > 0) found.push({ where: `${table}.${column}`, count });
    }
  }
  return found;
}
