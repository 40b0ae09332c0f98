import { afterAll, beforeAll, expect, test } from 'vitest';
import { counts, feedctl, json, sql, temporaryDirectory, type UpCluster, up } from '../support/cli.ts';

/** What an operator does to a cluster that holds generated data. */
let cluster: UpCluster;
const GENERATE = ['seed', 'generate', '--users', '400', '--follows', '3-60', '--posts', '1-5', '--seed', '7'];
const THRESHOLD = ['--celebrity-threshold', '100'];
const CLEAN = { mismatched: 0, missing: 0, strangers: 0, orphans: 0, duplicates: 0, asymmetric: 0 };

const verify = () => json(['feed', 'verify', '--all', ...cluster.at]);

beforeAll(async () => {
  cluster = await up(await temporaryDirectory());
});
afterAll(async () => {
  await feedctl(['down', ...cluster.at]);
});

test('seed generate makes the same data from the same seed, and nothing in a dry run', async () => {
  const planned = await json([...GENERATE, ...THRESHOLD, '--dry-run', ...cluster.at]);
  expect(planned).toMatchObject({ users: 400, posts: 0 });
  expect(await counts(cluster.databaseUrl)).toMatchObject({ users: '0', follows: '0' });
  const made = await json<{ follows: number; posts: number }>([...GENERATE, ...THRESHOLD, ...cluster.at]);
  expect(made).toMatchObject({ users: 400, follows: planned.follows });
  expect(await verify()).toMatchObject({ checked: 400, ...CLEAN });
  const again = await json([...GENERATE, ...THRESHOLD, ...cluster.at]);
  expect(again).toMatchObject({ users: 0, follows: 0, posts: 0, deliveries: 0 });

  const other = await up(await temporaryDirectory());
  await json([...GENERATE, ...THRESHOLD, ...other.at]);
  const digest = `select md5(string_agg(t::text, ',' order by t::text)) from`;
  for (const rows of [
    'select id, author_id, body from posts',
    'select follower_id, followee_id from follows',
  ]) {
    const [ours, theirs] = await Promise.all(
      [cluster, other].map(({ databaseUrl }) => sql(databaseUrl, `${digest} (${rows}) t`)),
    );
    expect(theirs).toEqual(ours);
  }
  await feedctl(['down', ...other.at]);
});

test('impossible data are refused', async () => {
  for (const flags of [
    ['--users', '10', '--follows', '5-10'],
    ['--users', '10', '--follows', '9-5'],
    ['--users', '10', '--posts', 'many'],
  ]) {
    const outcome = await feedctl(['seed', 'generate', ...flags, '--json', ...cluster.at]);
    expect(outcome.status).toBe(2);
    expect(JSON.parse(outcome.stdout)).toMatchObject({ error: { code: 'USAGE' } });
  }
});

test('a celebrity goes to push and back; every feed stays as it should be', async () => {
  const listed = () =>
    json<{ celebrities: { userId: number; state: string }[] }>(['celebrity', 'list', ...cluster.at]);
  const before = (await listed()).celebrities;
  expect(before.length).toBeGreaterThan(0);
  const user = String(before[0]!.userId);
  expect(await json(['celebrity', 'unmark', user, '--dry-run', ...cluster.at])).toMatchObject({
    changed: true,
  });
  expect((await listed()).celebrities).toEqual(before);
  expect(await json(['celebrity', 'unmark', user, ...cluster.at])).toMatchObject({ changed: true });
  expect(await verify()).toMatchObject(CLEAN);
  expect((await listed()).celebrities).toHaveLength(before.length - 1);
  expect(await json(['celebrity', 'unmark', user, ...cluster.at])).toMatchObject({
    changed: false,
    items: 0,
  });
  expect(await json(['celebrity', 'mark', user, ...cluster.at])).toMatchObject({ changed: true });
  expect(await verify()).toMatchObject(CLEAN);
  const [first, ...others] = before;
  expect((await listed()).celebrities).toEqual([{ ...first, pinned: true }, ...others]);
  const unpin = ['celebrity', 'unpin', user, ...cluster.at];
  expect(await json([...unpin, '--dry-run'])).toMatchObject({ changed: true, dryRun: true });
  expect(await json(unpin)).toMatchObject({ changed: true });
  expect(await json(unpin)).toMatchObject({ changed: false });
  expect((await listed()).celebrities).toEqual(before);
});

test('feeds are trimmed, and read on past what is left', async () => {
  const user = '17';
  const walk = async () => {
    const ids: number[] = [];
    for (let cursor: string | null | undefined; cursor !== null; ) {
      const flags = ['--limit', '7', ...(cursor ? ['--cursor', cursor] : [])];
      const page = await json<{ items: { postId: number }[]; nextCursor: string | null }>([
        'feed',
        'show',
        user,
        ...flags,
        ...cluster.at,
      ]);
      ids.push(...page.items.map((item) => item.postId));
      cursor = page.nextCursor;
    }
    return ids;
  };
  const whole = await walk();
  const planned = await json(['feed', 'trim', '--all', '--keep', '2', '--dry-run', ...cluster.at]);
  expect(await walk()).toEqual(whole);
  const trimmed = await json<{ items: number }>(['feed', 'trim', '--all', '--keep', '2', ...cluster.at]);
  expect(trimmed).toMatchObject({ users: planned.users, items: planned.items });
  expect(trimmed.items).toBeGreaterThan(0);
  expect(await verify()).toMatchObject(CLEAN);
  expect(await walk()).toEqual(whole);
});

test('users are listed page by page, each once', async () => {
  for (const sort of ['id', 'followers']) {
    const seen: number[] = [];
    for (let after: string | null | undefined; after !== null; ) {
      const flags = ['--sort', sort, '--limit', '150', ...(after ? ['--after', after] : [])];
      const page = await json<{ users: { id: number }[]; total: number; nextCursor: string | null }>([
        'user',
        'list',
        ...flags,
        ...cluster.at,
      ]);
      expect(page.total).toBe(400);
      seen.push(...page.users.map((user) => user.id));
      after = page.nextCursor;
    }
    expect(new Set(seen).size).toBe(400);
    expect(seen).toHaveLength(400);
  }
});

test('events are listed with whether they were dispatched', async () => {
  const { events } = await json<{ events: { type: string; dispatchedAt: string | null }[] }>([
    'events',
    'tail',
    '-n',
    '5',
    '--type',
    'post.created',
    ...cluster.at,
  ]);
  expect(events).toHaveLength(5);
  for (const event of events)
    expect(event).toMatchObject({ type: 'post.created', dispatchedAt: expect.any(String) });
});

test('doctor finds nothing wrong here, and says what is wrong elsewhere', async () => {
  const report = await json<{ settings: object[] }>(['doctor', ...cluster.at]);
  expect(report).toMatchObject({ ok: true, context: 'local' });
  expect(report.settings).toContainEqual({ name: 'dataDir', value: cluster.dataDir, source: 'flag' });
  const elsewhere = await feedctl(['doctor', '--json', '--data-dir', await temporaryDirectory()]);
  expect(elsewhere.status).toBe(1);
  expect(JSON.parse(elsewhere.stdout)).toMatchObject({
    ok: false,
    checks: expect.arrayContaining([expect.objectContaining({ name: 'cluster', status: 'fault' })]),
  });
});

test('bench fanout writes what it says, and compares it with COPY of the same rows', async () => {
  const size = ['--posts', '60', '--followers', '50', '--runs', '1'];
  const result = await json<{ runs: object[] }>(['bench', 'fanout', ...size]);
  expect(result).toMatchObject({
    deliveries: 3_000,
    ratio: expect.any(Number),
    rawCopyPerSecond: expect.any(Number),
    baseline: { name: expect.any(String), speedup: expect.any(Number) },
    latencyMs: { p50: expect.any(Number), p99: expect.any(Number) },
  });
  expect(result.runs).toHaveLength(1);
});
