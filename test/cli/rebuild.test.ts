import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { Database } from '../../src/engine/database/database.ts';
import { readFeed } from '../../src/engine/feed/read/read.ts';
import { listOperations, type OperationRow } from '../../src/engine/operations/table.ts';
import {
  feedctl,
  json,
  NOTHING_WRONG,
  sql,
  start,
  temporaryDirectory,
  type UpCluster,
  up,
  waitUntil,
} from '../support/cli.ts';

/** Rebuilds many feeds while they are read. */
let cluster: UpCluster;
let db: Database;
const USERS = 3_000;
const GENERATE = ['--users', `${USERS}`, '--follows', '3-20', '--posts', '2-6', '--seed', '5'];

beforeAll(async () => {
  cluster = await up(await temporaryDirectory());
  db = new Database(cluster.databaseUrl);
  await json(['seed', 'generate', ...GENERATE, ...cluster.at]);
}, 120_000);
afterAll(async () => {
  await db.close();
  await feedctl(['down', ...cluster.at]);
});

const rows = async (): Promise<string> => {
  const digest = `select md5(string_agg(i::text, ',' order by i::text)) as digest from feed_items i`;
  return (await sql<{ digest: string }>(cluster.databaseUrl, digest))[0]!.digest;
};
const rebuild = (...args: string[]) => json<Rebuilt>(['feed', 'rebuild', ...args, ...cluster.at]);
/** Reads the database directly. A busy machine may start a command slower than the rebuild ends. */
const operation = async (): Promise<OperationRow> =>
  (await listOperations(db, { kind: 'rebuild', limit: 1 }))[0]!;
interface Rebuilt {
  users: number;
  items: number;
  added: number;
  removed: number;
  seconds: number;
}

/** Removes every third row and adds rows of unfollowed authors. Returns both counts. */
async function damage(): Promise<{ added: number; removed: number }> {
  const count = async (text: string) => (await sql(cluster.databaseUrl, text)).length;
  const added = await count('delete from feed_items where post_id % 3 = 0 returning 1');
  const removed = await count(
    `insert into feed_items (user_id, post_id, author_id)
     select u.id, p.id, p.author_id from users u join posts p on p.author_id = u.id % ${USERS} + 1
     where not exists (select from follows where follower_id = u.id and followee_id = p.author_id)
     on conflict do nothing returning 1`,
  );
  expect(Math.min(added, removed)).toBeGreaterThan(1_000);
  return { added, removed };
}

let sound: string;
beforeEach(async () => {
  sound ??= await rows();
});

test('killed again and again and gone on with: every feed is right, all is counted once, no reader finds a feed empty', async () => {
  const { added, removed } = await damage();
  const damaged = await rows();
  const planned = await rebuild('--all', '--dry-run');
  expect(planned).toMatchObject({ users: USERS, added, removed });
  expect(await rows()).toBe(damaged);

  const readers = (
    await db.query<{ id: number }>(
      'select user_id as id from feed_items group by 1 having count(*) > 20 order by 1',
    )
  ).rows.map(({ id }) => id);
  let reading = true;
  let reads = 0;
  let emptiest = Number.POSITIVE_INFINITY;
  const polling = (async () => {
    for (; reading; reads += 1) {
      const { items } = await readFeed(db, readers[reads % readers.length]!, { limit: 10 });
      emptiest = Math.min(emptiest, items.length);
    }
  })();

  for (const [i, until] of [300, 900, 1_800].entries()) {
    const killed = start(['feed', 'rebuild', '--all', '--rate', '600', ...cluster.at]);
    await waitUntil(async () => {
      const now = await operation();
      // On a slow machine the run before has done as much already.
      return now?.state === 'running' && now.runs === i + 1 && (now.progress?.done ?? 0) >= until;
    });
    if (until === 900) {
      await json(['fanout', 'pause', '--lane', 'bulk', ...cluster.at]);
      const second = await feedctl(['feed', 'rebuild', '--all', '--json', ...cluster.at]);
      expect(JSON.parse(second.stdout)).toMatchObject({ error: { code: 'OPERATION_RUNNING' } });
    }
    killed.child.kill('SIGKILL');
    expect((await killed.ended).status).toBe('SIGKILL');
    await waitUntil(async () => (await operation()).state === 'interrupted');
    await json(['fanout', 'resume', '--lane', 'bulk', ...cluster.at]);
  }
  const { id } = await operation();
  expect(await json<Rebuilt>(['operation', 'resume', `${id}`, ...cluster.at])).toMatchObject({
    users: USERS,
    items: planned.items,
    added,
    removed,
  });
  reading = false;
  await polling;
  expect(reads).toBeGreaterThan(100);
  expect(emptiest).toBe(10);
  expect(await operation()).toMatchObject({
    id,
    state: 'done',
    runs: 4,
    progress: { done: USERS, unit: 'feeds' },
  });
  expect(await rows()).toBe(sound);
  expect(await json(['feed', 'verify', '--all', ...cluster.at])).toMatchObject(NOTHING_WRONG);
  expect(await rebuild('--all')).toMatchObject({ users: USERS, added: 0, removed: 0 });
}, 180_000);

test('Ctrl-C leaves it resumable, and the same command says that it goes on', async () => {
  const { added, removed } = await damage();
  const stopped = start(['feed', 'rebuild', '--all', '--rate', '600', ...cluster.at]);
  await waitUntil(
    async () => (await operation()).state === 'running' && (await operation()).progress !== null,
  );
  stopped.child.kill('SIGINT');
  const { status, stderr } = await stopped.ended;
  expect(status).toBe(3);
  expect(stderr).toMatch(/interrupted after \d+ of 3000 feeds.*\(INTERRUPTED\)/);
  const again = await feedctl(['feed', 'rebuild', '--all', ...cluster.at]);
  expect(again.stderr).toMatch(/^Resuming operation \d+ of /);
  const counted = [added, removed].map((n) => n.toLocaleString('en-US'));
  expect(again.stdout).toContain(`${counted[0]} rows added, ${counted[1]} removed.`);
  expect(await rows()).toBe(sound);
});

test('killed while the bulk lane is paused, it goes on by its number when the lane does', async () => {
  const { added, removed } = await damage();
  const damaged = await rows();
  await json(['fanout', 'pause', '--lane', 'bulk', '--reason', 'rush hour', ...cluster.at]);
  const waiting = start(['feed', 'rebuild', '--all', ...cluster.at]);
  await waitUntil(async () => /bulk lane is PAUSED since .*: rush hour.*: this waits/.test(waiting.stderr()));
  await waitUntil(async () => (await operation()).waitsFor !== null);
  waiting.child.kill('SIGKILL');
  await waiting.ended;
  await waitUntil(async () => (await operation()).state === 'interrupted');
  expect(await rows()).toBe(damaged);
  await json(['fanout', 'resume', '--lane', 'bulk', ...cluster.at]);
  const { id } = await operation();
  expect(await json<Rebuilt>(['operation', 'resume', `${id}`, ...cluster.at])).toMatchObject({
    added,
    removed,
  });
  expect(await rows()).toBe(sound);
});

test('the feeds of a file are rebuilt; a file with a fault changes nothing and names the line', async () => {
  const directory = await temporaryDirectory();
  const file = join(directory, 'users');
  const zipped = gzipSync(
    `# ids\n${Array.from({ length: 20_000 }, (_, i) => (i * 7) % USERS || 1).join('\n')}\n`,
  );
  await damage();
  const damaged = await rows();
  for (const [content, code, message] of [
    ['1\n2 3\n', 'BAD_LINE', 'line 2: expected the id of a user'],
    ['1\n\n# no\nx\n', 'BAD_LINE', 'line 4: '],
    ['1\n3001\n', 'USER_NOT_FOUND', 'line 2: there is no user 3001'],
    [zipped.subarray(0, zipped.length - 30), 'FILE_TRUNCATED', 'gzip'],
  ] as const) {
    await writeFile(file, content);
    const refused = await feedctl(['feed', 'rebuild', '--file', file, '--json', ...cluster.at]);
    expect(refused.status).toBe(1);
    expect(JSON.parse(refused.stdout)).toMatchObject({
      error: { code, message: expect.stringContaining(message) },
    });
  }
  expect(await rows()).toBe(damaged);
  for (const args of [[], ['1', '--all'], ['--all', '--file', file], ['--all', '--rate', '0']])
    expect((await feedctl(['feed', 'rebuild', ...args, ...cluster.at])).status, args.join(' ')).toBe(2);

  await writeFile(file, '# three\n1\n2\n\n2\n5\n');
  expect(await rebuild('--file', file)).toMatchObject({ users: 3 });
  const shown = await json(['feed', 'verify', '5', ...cluster.at]);
  expect(shown).toMatchObject({ checked: 1, mismatched: 0 });
  expect(await rows()).not.toBe(sound);
  await writeFile(file, zipped);
  const { users } = await rebuild('--file', file);
  expect(users).toBe(USERS - 1);
  expect(await operation()).toMatchObject({ command: `feed rebuild --file ${file}`, state: 'done' });
  await rebuild('--all');
  expect(await rows()).toBe(sound);
});
