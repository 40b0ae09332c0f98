import { existsSync } from 'node:fs';
import { mkdir, readdir, realpath, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { Database } from '../../../src/engine/database/database.ts';
import { prepareDataDir, startEmbeddedPostgres } from '../../../src/engine/database/embedded.ts';
import { temporaryDirectory } from '../../support/cli.ts';
import { rejection } from '../../support/codes.ts';

/** Starts a server, runs a query and stops the server. */
async function works(dataDir: string): Promise<{ databaseUrl: string }> {
  await prepareDataDir(dataDir);
  const postgres = await startEmbeddedPostgres(dataDir, { temporary: true });
  try {
    const db = new Database(postgres.databaseUrl);
    const { rows } = await db.query('select 1 as one');
    await db.close();
    expect(rows).toEqual([{ one: 1 }]);
    return postgres;
  } finally {
    await postgres.stop();
  }
}

test.each([
  ['a comma', 'a,b'],
  ['quotes and blanks', `it's "here"`],
])('a data directory with %s', async (_, name) => {
  await works(join(await temporaryDirectory(), name));
});

const outside = async () => (await readdir(tmpdir())).filter((name) => name.startsWith('feedctl-run-'));

test('a path too long for a socket: the socket is where nobody knew, and nothing is left', async () => {
  const before = await outside();
  const dataDir = join(await temporaryDirectory(), 'x'.repeat(100));
  const [first, second] = [await works(dataDir), await works(dataDir)];
  expect(first.databaseUrl).toContain(`feedctl-run-${process.pid}-`);
  expect(second.databaseUrl).not.toBe(first.databaseUrl);
  expect(await outside()).toEqual(before);
});

test('what an initdb is still writing, or cannot be removed, is not in the way', async () => {
  const dataDir = await temporaryDirectory();
  await mkdir(join(dataDir, 'postgres.new-killed'));
  await writeFile(join(dataDir, 'postgres.new'), 'of an older version');
  // Root can remove everything, except a directory with a concurrent writer. This test is that writer.
  const busy = join(dataDir, 'postgres.new-busy');
  let writing = true;
  const writer = (async () => {
    for (let i = 0; writing; i += 1) {
      await mkdir(busy, { recursive: true }).catch(() => {});
      await writeFile(join(busy, `file${i % 50}`), '').catch(() => {});
    }
  })();
  try {
    await works(dataDir);
  } finally {
    writing = false;
    await writer;
  }
});

test.skipIf(process.getuid?.() !== 0)(
  'a directory that the server cannot enter is not left behind',
  async () => {
    // A directory below a home that only root may enter.
    const home = join(await realpath(tmpdir()), `feedctl-home-${process.pid}`);
    await mkdir(home, { mode: 0o700 });
    onTestFinished(() => rm(home, { recursive: true, force: true }));
    const dataDir = join(home, 'deep', 'below');
    const refused = await rejection(prepareDataDir(dataDir));
    expect(refused).toMatchObject({ code: 'DATA_DIR_UNUSABLE' });
    expect(refused.message).toContain(`cannot enter ${home},`);
    expect(refused.suggestions.join(' ')).toContain(`outside ${home} `);
    expect(existsSync(home)).toBe(true);
    expect(await readdir(home)).toEqual([]);
  },
);
