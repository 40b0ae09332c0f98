import { createHash } from 'node:crypto';
import { resolve } from 'node:path';
import type { Store } from '../database/sharding.ts';
import { FeedctlError } from '../model/errors.ts';
import type { OperationInput } from '../model/operation.ts';
import { missingUsers } from '../store/users.ts';
import { idField, readRecords } from './records.ts';

/** Users per query. */
const CHUNK = 50_000;

/**
 * Reads a file of user ids, one per line, with `#` comments, gzipped or not. Returns each user
 * once, in the order of the file. Checks the whole file before it returns. Throws BAD_LINE,
 * USER_NOT_FOUND with the line, and errors of reading a file.
 */
export async function readUserFile(
  db: Store,
  path: string,
): Promise<{ ids: number[]; input: OperationInput }> {
  const digest = createHash('sha256');
  const lines = new Map<number, number>();
  const parse = (fields: string[], line: number) => {
    if (fields.length !== 1) throw `expected the id of a user, found ${fields.length} fields`;
    const id = idField(fields[0]!, 'user');
    if (!lines.has(id)) lines.set(id, line);
  };
  for await (const _ of readRecords(path, parse, digest));
  const ids = [...lines.keys()];
  for (let from = 0; from < ids.length; from += CHUNK) {
    const [first, ...others] = await missingUsers(db, ids.slice(from, from + CHUNK));
    if (first !== undefined)
      throw new FeedctlError(
        'USER_NOT_FOUND',
        `${path}, line ${lines.get(first)}: there is no user ${first}` +
          (others.length > 0 ? `, and ${others.length} more are missing` : ''),
      );
  }
  return { ids, input: { argument: path, path: resolve(path), digest: digest.digest('hex') } };
}
