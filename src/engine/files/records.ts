import type { Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { FeedctlError, messageOf } from '../model/errors.ts';
import { parseId } from '../model/ids.ts';

const MAX_LINE = 10_000;

/**
 * Reads the records of a text file, gzipped or not, in chunks. Skips blank lines and `#` comments.
 * `parse` gets the fields of a line and throws a string if they are no record, which becomes
 * BAD_LINE with the line number. Throws FILE_NOT_FOUND, FILE_UNREADABLE or FILE_TRUNCATED too.
 * `digest` is updated with the text.
 */
export async function* readRecords<T>(
  path: string,
  parse: (fields: string[], line: number) => T,
  digest?: Hash,
): AsyncGenerator<T[]> {
  let number = 0;
  let rest = '';
  const bad = (why: string) => new FeedctlError('BAD_LINE', `${path}, line ${number}: ${why}`);
  const records: T[] = [];
  const take = (line: string) => {
    number += 1;
    if (line.length > MAX_LINE) throw bad(`more than ${MAX_LINE} characters`);
    const text = line.trim();
    if (text === '' || text.startsWith('#')) return;
    try {
      records.push(parse(text.split(/\s+/), number));
    } catch (error) {
      throw typeof error === 'string' ? bad(error) : error;
    }
  };
  try {
    for await (const chunk of await openText(path)) {
      digest?.update(chunk as Buffer);
      const lines = (rest + (chunk as Buffer).toString('latin1')).split('\n');
      rest = lines.pop()!;
      for (const line of lines) take(line);
      if (rest.length > MAX_LINE) take(rest);
      yield records.splice(0);
    }
  } catch (error) {
    throw fileError(error, path, number);
  }
  if (rest !== '') take(rest);
  yield records;
}

/** Detects gzip by its first bytes, and by the file's name. */
async function openText(path: string): Promise<Readable> {
  // A file is read twice. Opening a pipe without a writer would never end.
  if (!(await stat(path)).isFile()) throw new FeedctlError('FILE_UNREADABLE', `${path} is no regular file`);
  const file = await open(path, 'r');
  const magic = Buffer.alloc(2);
  try {
    const { bytesRead } = await file.read(magic, 0, 2, 0);
    if (bytesRead === 0 && path.endsWith('.gz')) {
      throw new FeedctlError('FILE_TRUNCATED', `${path} is empty, and no gzip file is`);
    }
  } finally {
    await file.close();
  }
  const raw = createReadStream(path);
  if (!path.endsWith('.gz') && !(magic[0] === 0x1f && magic[1] === 0x8b)) return raw;
  const text = createGunzip();
  raw.on('error', (error) => text.destroy(error));
  // A reader that stops early destroys only the decompressed stream. The file would stay open.
  text.on('close', () => raw.destroy());
  return raw.pipe(text);
}

function fileError(error: unknown, path: string, lines: number): unknown {
  const code = (error as { code?: string }).code ?? '';
  if (error instanceof FeedctlError) return error;
  if (code === 'ENOENT')
    return new FeedctlError('FILE_NOT_FOUND', `there is no file ${path}`, { cause: error });
  if (code === 'Z_BUF_ERROR')
    return new FeedctlError(
      'FILE_TRUNCATED',
      `${path} ends in the middle of its gzip data, after line ${lines}`,
      {
        cause: error,
      },
    );
  if (code.startsWith('Z_'))
    return new FeedctlError('FILE_UNREADABLE', `${path} is no sound gzip file: ${messageOf(error)}`, {
      cause: error,
    });
  if (/^E[A-Z]+$/.test(code))
    return new FeedctlError('FILE_UNREADABLE', `cannot read ${path}: ${messageOf(error)}`, { cause: error });
  return error;
}

/** Parses an id for `parse`. Throws the reason as a string. */
export function idField(text: string, what: string): number {
  try {
    return parseId(text, what);
  } catch (error) {
    throw messageOf(error);
  }
}
