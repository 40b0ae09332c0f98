import { randomBytes } from 'node:crypto';
import { readdir, readlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { idField, readRecords } from '../../../src/engine/files/records.ts';
import { rejection } from '../../support/codes.ts';
import { file } from '../../support/files.ts';

async function read(path: string): Promise<string[][]> {
  const records: string[][] = [];
  for await (const chunk of readRecords(path, (fields) => fields)) records.push(...chunk);
  return records;
}

const strict = async (path: string) => {
  const parse = (fields: string[]) => idField(fields[0]!, 'user');
  for await (const _ of readRecords(path, parse));
};

/** Has many lines, so that there are many chunks. */
const numbers = (count: number) => Array.from({ length: count }, (_, i) => String(i + 1));

test.each([
  ['plain', '1 2\n3 4\n'],
  ['CRLF', '1 2\r\n3 4\r\n'],
  ['no newline at the end', '1 2\n3 4'],
  ['comments and blanks', '# from to\n\n1 2\n   \n  # more\n\t3\t4  \n#'],
])('%s', async (_, text) => {
  const records = [
    ['1', '2'],
    ['3', '4'],
  ];
  expect(await read(await file(text))).toEqual(records);
  expect(await read(await file(gzipSync(text), 'data.txt.gz'))).toEqual(records);
});

test('a file of nothing but comments, or of nothing, has no records', async () => {
  expect(await read(await file(''))).toEqual([]);
  expect(await read(await file('# nothing\n'))).toEqual([]);
  expect(await read(await file(gzipSync(''), 'data.gz'))).toEqual([]);
});

test('gzip is told by its content, and may have several members', async () => {
  const members = Buffer.concat([gzipSync('1\n2'), gzipSync('3\n')]);
  expect(await read(await file(members, 'data.txt'))).toEqual([['1'], ['23']]);
});

test('what is read is what was written, wherever chunks and lines end', async () => {
  const line = fc.array(fc.stringMatching(/^[a-z0-9]{1,20}$/), { minLength: 1, maxLength: 400 });
  await fc.assert(
    fc.asyncProperty(fc.array(line, { maxLength: 200, size: 'max' }), async (lines) => {
      const text = lines.map((fields) => `${fields.join(' ')}\n`).join('');
      expect(await read(await file(text))).toEqual(lines);
    }),
    { numRuns: 10 },
  );
});

test('a bad line is named by its number, counting comments and blanks', async () => {
  const path = await file('# ids\n1\n\n2\nthree\n4\n');
  const error = await rejection(strict(path));
  expect(error).toMatchObject({ code: 'BAD_LINE' });
  expect(error.message).toContain(`${path}, line 5:`);
});

test('a bad line far into a file, and the last without its newline, are named too', async () => {
  const path = await file(`${numbers(50_000).join('\n')}\nlast`);
  expect((await rejection(strict(path))).message).toContain('line 50001:');
});

test.each(['in the middle', 'at the end'])('a line that is too long %s is named', async (where) => {
  const lines = [...numbers(40_000), '9'.repeat(200_000)];
  if (where === 'in the middle') lines.push(...numbers(10));
  const error = await rejection(strict(await file(lines.join('\n'))));
  expect(error).toMatchObject({ code: 'BAD_LINE' });
  expect(error.message).toContain('line 40001: more than');
});

test('of two bad lines the first is named', async () => {
  const path = await file(`1\nbad\n${'9'.repeat(20_000)}`);
  expect((await rejection(strict(path))).message).toContain('line 2:');
});

test('a file that cannot be read says why', async () => {
  const path = await file('1\n');
  expect(await rejection(read(`${path}.not`))).toMatchObject({ code: 'FILE_NOT_FOUND' });
  expect(await rejection(read(dirname(path)))).toMatchObject({ code: 'FILE_UNREADABLE' });
});

test('gzip that is cut short anywhere is truncated', async () => {
  const whole = gzipSync(randomBytes(2_000).toString('hex').replaceAll('a', '\n'));
  for (const length of [0, 1, 2, 9, 10, 11, 500, whole.length - 8, whole.length - 1]) {
    const path = await file(whole.subarray(0, length), 'data.gz');
    expect(await rejection(read(path)), `${length} bytes`).toMatchObject({ code: 'FILE_TRUNCATED' });
  }
});

test('gzip that is damaged is no sound file', async () => {
  const whole = gzipSync(numbers(10_000).join('\n'));
  const damaged = Buffer.from(whole);
  damaged.fill(0xff, 100, 120);
  expect(await rejection(read(await file(damaged, 'data.gz')))).toMatchObject({ code: 'FILE_UNREADABLE' });
  const checksum = Buffer.from(whole);
  checksum[whole.length - 6]! ^= 1;
  expect(await rejection(read(await file(checksum, 'data.gz')))).toMatchObject({ code: 'FILE_UNREADABLE' });
  expect(await rejection(read(await file('1 2\n', 'data.gz')))).toMatchObject({ code: 'FILE_UNREADABLE' });
});

test.skipIf(process.platform !== 'linux')('a file is closed again when a line of it is bad', async () => {
  const text = `bad\n${randomBytes(1_000_000).toString('hex').replaceAll('0', '\n')}`;
  for (const content of [text, gzipSync(text)]) {
    const path = await file(content);
    expect(await rejection(strict(path))).toMatchObject({ code: 'BAD_LINE' });
    const open = async () => {
      const descriptors = await readdir('/proc/self/fd');
      return Promise.all(descriptors.map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => '')));
    };
    await expect.poll(open).not.toContain(path);
  }
});
