import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { freshVhost } from '../support/broker.ts';
import {
  emptyDatabase,
  feedctl,
  json,
  NOTHING_WRONG,
  type Outcome,
  type Running,
  type SpawnOptions,
  sql,
  start,
  temporaryDirectory,
  type UpCluster,
  up,
  waitUntil,
} from '../support/cli.ts';
import { findServer } from '../support/server.ts';

const server = await findServer('rabbitmq');

interface Listed {
  total: number;
  letters: { id: number; queue: string; reason: string }[];
}

/**
 * Works on dead letters as an operator does. `at` names the cluster; `poison` publishes a message that
 * no consumer can read.
 */
async function operate(at: (args: string[]) => [string[], SpawnOptions?], poison: () => Promise<void>) {
  const run = (...args: string[]): Promise<Outcome> => feedctl(...at(args));
  const asJson = <T>(...args: string[]): Promise<T> => json<T>(...at(args));
  const code = ({ stdout }: Outcome) => (JSON.parse(stdout) as { error: { code: string } }).error.code;

  expect(await asJson('dlq', 'list')).toEqual({ total: 0, letters: [] });
  await poison();
  let listed: Listed = { total: 0, letters: [] };
  await waitUntil(async () => {
    listed = await asJson<Listed>('dlq', 'list', '--queue', 'events');
    return listed.total === 1;
  });
  const [letter] = listed.letters;
  expect(letter).toMatchObject({ queue: 'events', reason: expect.stringMatching(/the message/) });
  const id = String(letter!.id);
  const text = await run('dlq', 'list', '--since', '1h');
  expect(text).toMatchObject({ status: 0, stderr: '1 of 1 dead letter.\n' });
  expect(text.stdout).toContain(letter!.reason);
  expect(await asJson('dlq', 'show', id)).toMatchObject({ content: { kind: 'unreadable' } });
  expect((await run('dlq', 'show', id)).stdout).toContain('The message cannot be read');

  for (const wrong of [
    ['dlq', 'replay'],
    ['dlq', 'replay', id, '--all'],
    ['dlq', 'list', '--since', 'yesterday'],
    ['dlq', 'discard'],
  ])
    expect(await run(...wrong), wrong.join(' ')).toMatchObject({ status: 2 });
  const missing = await run('dlq', 'show', '4000000000000000', '--json');
  expect([missing.status, code(missing)]).toEqual([1, 'DEAD_LETTER_NOT_FOUND']);
  const unasked = await run('dlq', 'discard', id, '--json');
  expect([unasked.status, code(unasked)]).toEqual([2, 'CONFIRMATION_REQUIRED']);

  expect(await asJson('dlq', 'replay', id, '--dry-run')).toMatchObject({ matched: 1, done: 0, dryRun: true });
  expect(await asJson('dlq', 'discard', id, '--dry-run')).toMatchObject({
    matched: 1,
    done: 0,
    dryRun: true,
  });
  expect((await asJson<Listed>('dlq', 'list')).letters.map((one) => one.id)).toEqual([letter!.id]);
  expect(await asJson('dlq', 'replay', id, '--rate', '10')).toMatchObject({ matched: 1, done: 1 });
  // It cannot be read now either, and dies as another one.
  await waitUntil(async () => (await asJson<Listed>('dlq', 'list')).total === 1);
  expect(await asJson('dlq', 'replay', id)).toMatchObject({ matched: 0, done: 0 });
  expect(await asJson('dlq', 'discard', '--reason', 'no such reason', '--yes')).toMatchObject({ done: 0 });
  expect(await asJson('dlq', 'discard', '--all', '--yes')).toMatchObject({ matched: 1, done: 1 });
  expect(await asJson('dlq', 'list')).toMatchObject({ total: 0 });
}

describe('on the embedded cluster', () => {
  let cluster: UpCluster;
  beforeAll(async () => {
    cluster = await up(await temporaryDirectory());
  });
  afterAll(async () => {
    await feedctl(['down', ...cluster.at]);
  });

  test('dead letters are listed, shown, replayed and discarded', { timeout: 120_000 }, async () => {
    await operate(
      (args) => [[...args, ...cluster.at]],
      async () => {
        await sql(cluster.databaseUrl, `insert into bus.messages (queue, body) values ('events', 'poison')`);
      },
    );
  });

  test('events are dispatched again', { timeout: 60_000 }, async () => {
    const at = cluster.at;
    await json(['user', 'create', 'Ada', '--id', '1', ...at]);
    await json(['post', 'create', '1', 'hello', ...at]);
    const again = ['events', 'redispatch', '--from', '1h', '--author', '1', '--type', 'post.created', ...at];
    expect(await json([...again, '--dry-run'])).toMatchObject({ matched: { 'post.created': 1 }, events: 0 });
    expect(await json(again)).toMatchObject({ events: 1, nextId: null });
    expect((await feedctl(again)).stdout).toMatch(/^Dispatched 1 event again/);
    for (const wrong of [
      [],
      ['--from', '1h', '--from-id', '1'],
      ['--from', '1h', '--to', '2h'],
      ['--posted-to', '1h'],
      ['--posted-from', '1h', '--posted-to', '2h'],
    ])
      expect(await feedctl(['events', 'redispatch', ...wrong, ...at])).toMatchObject({ status: 2 });
  });

  test('a redispatch that is killed and run again restores every row, and tells no socket', {
    timeout: 120_000,
  }, async () => {
    const { at, databaseUrl: url } = cluster;
    const generated = ['--users', '30', '--follows', '2-5', '--posts', '2-3', '--seed', '3'];
    const { posts } = await json<{ posts: number }>(['seed', 'generate', ...generated, ...at]);
    const count = async (from: string) =>
      Number((await sql<{ n: string }>(url, `select count(*) as n from ${from}`))[0]!.n);
    // These posts are imported now: their events are new, and only their own times are older.
    const again = ['events', 'redispatch', '--type', 'post.created', ...at];
    const matched = async (...flags: string[]) =>
      (await json<{ matched: Record<string, number> }>([...again, ...flags, '--dry-run'])).matched;
    const old = await count(`posts where created_at < now() - interval '10 days'`);
    expect(old).toBe(posts);
    const made = await count('posts');
    expect(await matched('--from', '1h')).toEqual({ 'post.created': made });
    expect(await matched('--posted-from', '2000-01-01', '--posted-to', '10d')).toEqual({
      'post.created': old,
    });
    expect(await matched('--posted-from', '10d', '--from', '1h')).toEqual({ 'post.created': made - old });
    expect(await matched('--posted-from', '2000-01-01', '--to', '1h')).toEqual({});

    const [pair] = await sql<{ reader: string; author: string }>(
      url,
      'select user_id as reader, max(author_id) as author from feed_items group by 1 order by 1 limit 1',
    );
    const { reader, author } = pair!;
    const watch = start(['feed', 'watch', reader, '--json', ...at]);
    onTestFinished(() => void watch.child.kill('SIGKILL'));
    await waitUntil(async () => watch.stderr().startsWith('Watching'));
    const sound = await count('feed_items');
    await sql(url, 'delete from feed_items');
    const victim = start([...again, '--from', '1h', '--rate', '20']);
    await waitUntil(async () => (await count('feed_items')) > 0);
    victim.child.kill('SIGKILL');
    expect((await victim.ended).status, 'in the middle').toBe('SIGKILL');
    for (let run = 0; run < 2; run += 1) {
      expect(await json([...again, '--from', '1h'])).toMatchObject({ events: made, nextId: null });
      await waitUntil(async () => (await count('feed_items')) === sound);
    }
    expect(await json(['feed', 'verify', '--all', ...at])).toMatchObject(NOTHING_WRONG);
    await json(['post', 'create', author, 'now', ...at]);
    await watch.printed(/"now"/);
    expect(watch.stdout().trim().split('\n')).toHaveLength(1);
  });
});

test.skipIf(!server)('dead letters on RabbitMQ', { timeout: 180_000 }, async () => {
  const { url } = await freshVhost(server!);
  const databaseUrl = await emptyDatabase('rabbit_dead_letters');
  const at = { env: { FEEDCTL_DATABASE_URL: databaseUrl, FEEDCTL_BROKER_URL: url } };
  await json(['migrate', '--partitions', '2'], at);
  const worker: Running = start(['worker', 'start', '--json'], at);
  await worker.printed(/"ready": true/);
  await operate(
    (args) => [args, at],
    async () => {
      const { connect } = await import('amqplib');
      const connection = await connect(url);
      const channel = await connection.createConfirmChannel();
      channel.publish('feed.events', '1', Buffer.from('poison'), { persistent: true });
      await channel.waitForConfirms();
      await connection.close();
    },
  );
  // One that is still at the broker says why a post is not in a feed.
  for (const id of ['1', '2']) await json(['user', 'create', 'Ada', '--id', id], at);
  await json(['follow', 'create', '2', '1'], at);
  await sql(databaseUrl, 'alter table feed_items add constraint poison check (author_id <> 1) not valid');
  const { id } = await json<{ id: number }>(['post', 'create', '1', 'hello'], at);
  const why = async () => {
    const outcome = await feedctl(['feed', 'explain', '2', String(id), '--json'], at);
    return { status: outcome.status, ...JSON.parse(outcome.stdout) };
  };
  await expect.poll(why, { timeout: 60_000 }).toMatchObject({ status: 1, verdict: 'dead-lettered' });
  await sql(databaseUrl, 'alter table feed_items drop constraint poison');
  const { mend } = (await why()) as { mend: string };
  await json([...mend.split(' ').slice(1)], at);
  await expect.poll(why, { timeout: 60_000 }).toMatchObject({ status: 0, verdict: 'present' });
  worker.child.kill('SIGTERM');
  expect(await worker.ended).toMatchObject({ status: 0 });
});
