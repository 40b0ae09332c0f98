import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Bus } from '../../src/engine/bus/bus.ts';
import { LocalBus } from '../../src/engine/bus/local/bus.ts';
import { RabbitBus } from '../../src/engine/bus/rabbitmq/bus.ts';
import { notifiedChanges } from '../../src/engine/cache/invalidation.ts';
import { Database } from '../../src/engine/database/database.ts';
import { followHandlers } from '../../src/engine/fanout/followHandlers.ts';
import { startPlanner } from '../../src/engine/fanout/planner.ts';
import { silentNotifier } from '../../src/engine/live/notifier.ts';
import { encodeEvents } from '../../src/engine/model/messages.ts';
import { silentLog } from '../../src/engine/telemetry/log.ts';
import { freshVhost } from '../support/broker.ts';
import {
  emptyDatabase,
  feedctl,
  json,
  NOTHING_WRONG,
  sql,
  start,
  temporaryDirectory,
  testRole,
  waitUntil,
} from '../support/cli.ts';
import { citusDatabase } from '../support/cluster.ts';
import { findServer } from '../support/server.ts';
import { EVERY_FOUNDATION } from '../support/spawnedCluster.ts';

const [rabbitmq, citus] = [await findServer('rabbitmq'), await findServer('citus')];
const FOLLOWERS = 300;
const POSTS = 12;

interface At {
  readonly env: { readonly FEEDCTL_DATABASE_URL: string; readonly FEEDCTL_BROKER_URL?: string };
}
interface Row {
  queue: string;
  ready: number;
  unacked: number;
  oldestAgeMs: number | null;
  inPerSecond: number | null;
}
interface Purged {
  messages: number;
  composition: { rows: number; cleanups: number; events: Record<string, number> };
  redispatch: { fromId: number; toId: number } | null;
  mend: string;
}

const startWorker = ({ env }: At) => testRole(['worker', 'start'], { env: { ...env } });

const openBus = ({ env }: At): Bus =>
  new RabbitBus(env.FEEDCTL_BROKER_URL!, env.FEEDCTL_DATABASE_URL, { partitions: 2 });

/** Uses the cluster's bus in this process. */
async function withBus(at: At, work: (bus: Bus, db: Database) => Promise<void>): Promise<void> {
  const db = new Database(at.env.FEEDCTL_DATABASE_URL);
  const bus = at.env.FEEDCTL_BROKER_URL ? openBus(at) : new LocalBus(at.env.FEEDCTL_DATABASE_URL);
  try {
    await work(bus, db);
  } finally {
    await bus.close();
    await db.close();
  }
}

/** A planner without a writer: what it plans waits. */
const planOnly = (at: At): Promise<void> =>
  withBus(at, async (bus, db) => {
    const planner = await startPlanner({
      db,
      bus,
      clock: { now: () => Date.now() },
      changes: notifiedChanges,
      notifier: silentNotifier,
      relations: followHandlers,
      log: silentLog,
    });
    const barrier = await bus.placeBarrier(['events']);
    await waitUntil(() => bus.hasPassed(barrier));
    await planner.stop(10_000);
  });

async function operate(at: At, brokered: boolean): Promise<void> {
  const options = { env: { ...at.env } };
  const run = (...args: string[]) => feedctl(args, options);
  const ask = <T>(...args: string[]) => json<T>(args, options);
  const code = (outcome: { stdout: string }) =>
    (JSON.parse(outcome.stdout) as { error: { code: string } }).error.code;
  const listed = async () => (await ask<{ queues: Row[] }>('queue', 'list', '--interval', '0')).queues;
  const ready = async (queue: string) => (await listed()).find((row) => row.queue === queue)!.ready;
  const posts = async (count: number) => {
    for (let i = 0; i < count; i += 1) await ask('post', 'create', '1', `post ${i}`);
  };
  const mended = async ({ mend }: Purged) => {
    const worker = await startWorker(at);
    expect(mend).toMatch(/^feedctl events redispatch --from-id \d+ --to-id \d+$/);
    await ask(...mend.split(' ').slice(1));
    expect(
      await ask('queue', 'list', '--until', 'empty', '--timeout', '120', '--interval', '1'),
    ).toMatchObject({
      empty: true,
    });
    await waitUntil(async () => (await run('feed', 'verify', '--all', '--json')).status === 0);
    expect(await ask('feed', 'verify', '--all')).toMatchObject({ checked: FOLLOWERS + 1, ...NOTHING_WRONG });
    worker.child.kill('SIGTERM');
    await worker.ended;
  };

  const graph = join(await temporaryDirectory(), 'graph.txt');
  await writeFile(graph, Array.from({ length: FOLLOWERS }, (_, i) => `${i + 2} 1`).join('\n'));
  await ask('seed', 'graph', graph);
  expect((await listed()).map(({ queue, ready }) => [queue, ready])).toEqual(
    ['events', 'events.bulk', 'rows.live', 'rows.bulk', 'cleanup'].map((queue) => [queue, 0]),
  );
  expect((await run('queue', 'peek', 'events')).stdout).toBe('No messages wait.\n');

  // Nobody works: events wait, are listed, looked at, and too many for a limit.
  await posts(POSTS);
  expect(await ready('events')).toBe(POSTS);
  for (let i = 0; i < 2; i += 1)
    expect(await ask('queue', 'peek', 'events', '--limit', '3')).toMatchObject({
      ready: POSTS,
      messages: [1, 2, 3].map(() => ({
        content: { kind: 'events', events: [{ type: 'post.created', aggregateId: 1 }] },
      })),
    });
  expect((await run('queue', 'peek', 'events')).stdout).toMatch(
    /message 10: events, .*\n {2}\d+ {2}post\.created/,
  );
  const above = await run('queue', 'list', '--interval', '0', '--max-ready', '5', '--json');
  expect(above.status).toBe(1);
  expect(JSON.parse(above.stdout)).toMatchObject({
    above: [{ queue: 'events', what: 'ready', value: POSTS, limit: 5 }],
  });
  expect((await run('queue', 'list', '--max-ready', String(POSTS))).status).toBe(0);
  // The broker tells no age of what nobody consumes.
  expect((await run('queue', 'list', '--max-age', '1h')).status).toBe(brokered ? 1 : 0);
  expect(await ask('queue', 'list', '--detail', '--queue', 'events')).toMatchObject({
    queues: [{ queue: 'events', inPerSecond: 0, outPerSecond: 0, etaSeconds: null }],
    details: [
      { queue: 'events', composition: { messages: POSTS, authors: [{ authorId: 1, posts: POSTS }] } },
    ],
  });
  expect((await run('queue', 'list', '--detail')).stdout).toMatch(/author 1: 12 posts, 12 events/);
  const late = await run('queue', 'list', '--until', 'empty', '--timeout', '1', '--interval', '1', '--json');
  expect([late.status, JSON.parse(late.stdout)]).toMatchObject([1, { empty: false }]);
  const watching = start(['queue', 'list', '--watch', '--queue', 'events', '--json'], options);
  expect(JSON.parse(await watching.printed(/^\{.*\}\n/))).toMatchObject({ queues: [{ queue: 'events' }] });
  watching.child.kill('SIGINT');
  expect(await watching.ended).toMatchObject({ status: 0, stderr: '' });

  // Thousands of rows wait, and a change of a celebrity for them.
  await planOnly(at);
  expect(await ready('rows.live')).toBeGreaterThan(0);
  const celebrity = start(['celebrity', 'mark', '5', '--json'], options);
  await waitUntil(
    async () =>
      (await sql(at.env.FEEDCTL_DATABASE_URL, `select from users where id = 5 and push_state = 'pull'`))
        .length === 1,
  );
  if (brokered)
    await waitUntil(
      async () =>
        (await sql(at.env.FEEDCTL_DATABASE_URL, 'select from bus.marks where cardinality(waiting) > 0'))
          .length > 0,
    );
  const rehearsed = await ask<Purged>('queue', 'purge', 'rows.live', '--dry-run');
  expect(rehearsed.composition).toMatchObject({ rows: FOLLOWERS * POSTS, authors: [{ authorId: 1 }] });
  for (const [status, expected, ...args] of [
    [2, 'CONFIRMATION_REQUIRED', 'rows.live'],
    [2, 'CONFIRMATION_REQUIRED', 'rows.live', '--confirm', 'rows.bulk'],
    [2, 'USAGE', 'rows.live', '--yes'],
    [2, 'USAGE', 'rows'],
    [2, 'USAGE', 'live.0b1f'],
  ] as const) {
    const outcome = await run('queue', 'purge', ...args, '--json');
    expect([outcome.status, code(outcome)], args.join(' ')).toEqual([status, expected]);
  }
  const purged = await ask<Purged>('queue', 'purge', 'rows.live', '--confirm', 'rows.live');
  expect(purged.composition).toMatchObject({ rows: FOLLOWERS * POSTS, posts: POSTS });
  expect(purged.redispatch).toEqual(rehearsed.redispatch);
  expect(await celebrity.ended).toMatchObject({ status: 0 });
  expect(await ready('rows.live')).toBe(0);
  expect((await run('feed', 'verify', '--all', '--json')).status).toBe(1);
  await ask('celebrity', 'unmark', '5');
  await mended(purged);

  // Events.
  await posts(3);
  const events = await ask<Purged>('queue', 'purge', 'events', '--confirm', 'events');
  expect(events).toMatchObject({ messages: 3, composition: { events: { 'post.created': 3 } } });
  await mended(events);

  // Cleanups: of an unfollow and of a deletion.
  const { id } = await ask<{ id: number }>('post', 'create', '1', 'soon gone');
  await ask('post', 'delete', String(id), '--yes');
  await ask('follow', 'delete', '2', '1');
  await planOnly(at);
  const cleanups = await ask<Purged>('queue', 'purge', 'cleanup', '--confirm', 'cleanup');
  expect(cleanups.composition.cleanups).toBe(2);
  await mended(cleanups);

  // Beside a worker that takes messages: not before it stands.
  await startWorker(at);
  const refused = await run('queue', 'purge', 'rows.bulk', '--confirm', 'rows.bulk', '--json');
  expect([refused.status, code(refused)]).toEqual([1, 'QUEUE_CONSUMED']);
  expect(refused.stdout).toContain('feedctl fanout pause --lane bulk');
  const peeked = await run('queue', 'peek', 'rows.bulk', '--json');
  expect(peeked.status).toBe(brokered ? 1 : 0);
  if (brokered) expect(code(peeked)).toBe('QUEUE_CONSUMED');
  await ask('fanout', 'pause', '--lane', 'bulk');
  expect(await ask('queue', 'purge', 'rows.bulk', '--confirm', 'rows.bulk')).toMatchObject({ messages: 0 });
  expect((await run('queue', 'purge', 'cleanup', '--confirm', 'cleanup', '--json')).stdout).toContain(
    '--lane all',
  );
  expect(await ask('queue', 'peek', 'rows.bulk')).toMatchObject({ messages: [] });
}

/** A purge that is killed has noted what it threw away, and the next goes on. */
async function killPurge(at: At): Promise<void> {
  const options = { env: { ...at.env } };
  await json(['user', 'create', '--id', '1'], options);
  await json(['post', 'create', '1', 'the first'], options);
  const [first] = await sql<{ id: string; subject_id: string }>(
    at.env.FEEDCTL_DATABASE_URL,
    'select id, subject_id from events',
  );
  const event = {
    type: 'post.created' as const,
    id: Number(first!.id),
    aggregateId: 1,
    subjectId: Number(first!.subject_id),
  };
  const body = encodeEvents({ importId: 0, committedAt: Date.now() }, [event]);
  const command = ['queue', 'purge', 'events', '--confirm', 'events', '--json'];
  for (;;) {
    await withBus(at, async (bus) => {
      for (let i = 0; i < 20; i += 1)
        await bus.publish(Array.from({ length: 1_000 }, (_, key) => ({ queue: 'events', body, key })));
    });
    const victim = start(command, options);
    let ended = false;
    void victim.ended.then(() => {
      ended = true;
    });
    await waitUntil(
      async () =>
        ended ||
        (
          await sql(
            at.env.FEEDCTL_DATABASE_URL,
            `select from operations
             where kind = 'queue.purge' and state = 'running' and (progress ->> 'messages')::integer > 0`,
          )
        ).length === 1,
    );
    victim.child.kill('SIGKILL');
    const { status } = await victim.ended;
    // The broker has to notice that it is gone.
    await waitUntil(
      async () => (await feedctl(['queue', 'peek', 'events', '--limit', '1'], options)).status === 0,
    );
    const { operations } = await json<{ operations: { id: number }[] }>(
      ['operation', 'list', '--kind', 'queue.purge', '--state', 'interrupted'],
      options,
    );
    const again = operations[0] ? ['operation', 'resume', `${operations[0].id}`] : command;
    const rest = await json<Purged>(again, options);
    // It may have come to its end before it was killed, or have been killed with its first acks on their way.
    if (status !== 'SIGKILL' || rest.messages === 0 || rest.messages >= 20_000) continue;
    expect(rest.redispatch).toEqual({ fromId: event.id, toId: event.id });
    return;
  }
}

const onPostgres = async (name: string): Promise<At> => {
  const at = { env: { FEEDCTL_DATABASE_URL: await emptyDatabase(name) } };
  await json(['migrate'], at);
  return at;
};
const onRabbit = async (name: string): Promise<At> => {
  const { url } = await freshVhost(rabbitmq!);
  const at = { env: { FEEDCTL_DATABASE_URL: await emptyDatabase(name), FEEDCTL_BROKER_URL: url } };
  await json(['migrate', '--partitions', '2'], at);
  return at;
};

/** The suite of the bus has the same on PostgreSQL, so one foundation is enough most of the time. */
const withoutPostgres = rabbitmq !== undefined && !EVERY_FOUNDATION;

test.skipIf(withoutPostgres)(
  'queues are listed, looked into, purged and mended, on PostgreSQL',
  { timeout: 300_000 },
  async () => operate(await onPostgres('cli_queues'), false),
);
test.skipIf(!rabbitmq)('the same on RabbitMQ', { timeout: 300_000 }, async () =>
  operate(await onRabbit('cli_queues_rabbit'), true),
);
test.skipIf(!citus || !EVERY_FOUNDATION)('the same on Citus', { timeout: 300_000 }, async () => {
  const { url } = await citusDatabase(citus!);
  await operate({ env: { FEEDCTL_DATABASE_URL: url } }, false);
});
test.skipIf(withoutPostgres)('a purge is killed', { timeout: 120_000 }, async () =>
  killPurge(await onPostgres('cli_purge_killed')),
);
test.skipIf(!rabbitmq)('a purge is killed, on RabbitMQ', { timeout: 120_000 }, async () =>
  killPurge(await onRabbit('cli_purge_killed_rabbit')),
);
