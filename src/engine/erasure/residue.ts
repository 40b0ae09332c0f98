import type { Queryable } from '../database/database.ts';

/** Where something of a user is. */
export interface Residue {
  /** `table.column`, a queue, or `cache`. */
  readonly where: string;
  readonly count: number;
}

/** Every column of every table of this program's, but parts of partitioned tables and of distributed ones. */
const COLUMNS = `
  select n.nspname || '.' || c.relname as table, a.attname as column, format_type(a.atttypid, null) as type
  from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid
  where n.nspname in ('public', 'bus') and c.relkind in ('r', 'p') and not c.relispartition
    and a.attnum > 0 and not a.attisdropped
  order by 1, a.attnum`;

/** Ids of something else where they are equal by chance: what makes them a user's. */
const ONLY: Readonly<Record<string, string>> = {
  'public.events.subject_id': `type like 'follow.%'`,
};
/** The audit trail: that this user was erased. */
const AUDIT = 'public.operations';

/** Users are called by their id; everything else of a bigint is a user's where it is called something_id, a post's apart. */
const isUserId = (table: string, column: string): boolean =>
  table === 'public.users' ? column === 'id' : /_id$/.test(column) && column !== 'post_id';

/** In: id (as $1), patterns of texts (as $2). Where a row says whose it is, its texts are that user's. */
function inWords(column: string, type: string, owned: boolean): string {
  const named =
    type === 'jsonb'
      ? `jsonb_path_exists(${column}, '$.** ? (@.type() == "object").keyvalue() ?
           (@.key like_regex "(user|author|follower|followee)_?id$" flag "i" && (@.value == $id || @.value == $text))',
           jsonb_build_object('id', $1::bigint, 'text', $1::bigint::text), true)`
      : `${column}::text = $1::bigint::text`;
  if (owned) return type === 'jsonb' ? named : 'false';
  return `${named} or ${column}::text like any($2)`;
}

const quoted = (name: string): string => `"${name}"`;

/**
 * Looks through every table for the user: the id in each column of ids and in JSON under the name of one, and, in tables
 * that do not say whose a row is, texts of theirs and the id as a text. Which tables and columns there are is asked of the database, so that
 * what is added later is looked at too. One pass over each table.
 */
export async function findResidue(
  db: Queryable,
  userId: number,
  texts: readonly string[] = [],
): Promise<Residue[]> {
  const { rows } = await db.query<{ table: string; column: string; type: string }>(COLUMNS);
  const traces: Residue[] = [];
  for (const [table, columns] of Map.groupBy(rows, (row) => row.table)) {
    if (table === AUDIT) continue;
    const ids = columns.filter(({ column, type }) => type === 'bigint' && isUserId(table, column));
    const words = columns.filter(({ type }) => type === 'text' || type === 'jsonb' || type === 'text[]');
    const conditions = [
      ...ids.map(({ column }) => {
        const only = ONLY[`${table}.${column}`];
        return [column, `${quoted(column)} = $1${only ? ` and ${only}` : ''}`];
      }),
      ...words.map(({ column, type }) => [column, inWords(quoted(column), type, ids.length > 0)]),
    ];
    if (conditions.length === 0) continue;
    const counts = conditions.map(([, condition], nth) => `count(*) filter (where ${condition}) as c${nth}`);
    const patterns = texts.map((text) => `%${text.replace(/[\\%_]/g, '\\$&')}%`);
    const [schema, name] = table.split('.') as [string, string];
    const found = await db.query<Record<string, number>>(
      `select ${counts.join(', ')} from ${quoted(schema)}.${quoted(name)} where $1::bigint > 0 and $2::text[] is not null`,
      [userId, patterns],
    );
    for (const [nth, [column]] of conditions.entries()) {
      const count = found.rows[0]![`c${nth}`]!;
      if (count > 0) traces.push({ where: `${table}.${column}`, count });
    }
  }
  return traces;
}
