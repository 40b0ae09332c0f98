import { expect, onTestFinished, test } from 'vitest';
import { RabbitBus, type RabbitBusOptions } from '../../../src/engine/bus/rabbitmq/bus.ts';
import type { Database } from '../../../src/engine/database/database.ts';
import { Identity } from '../../../src/engine/identity/identity.ts';
import { firstIdAt } from '../../../src/engine/model/ids.ts';
import { decodeEvents } from '../../../src/engine/model/messages.ts';
import { type CompletenessContext, keepComplete } from '../../../src/engine/queues/completeness.ts';
import { type Completeness, readCompleteness } from '../../../src/engine/store/completeness.ts';
import { DatabaseClock } from '../../../src/engine/store/databaseClock.ts';
import { silentLog } from '../../../src/engine/telemetry/log.ts';
import { poll } from '../../../src/engine/util/poll.ts';
import { freshVhost } from '../../support/broker.ts';
import { freshDatabase, testCluster } from '../../support/cluster.ts';
import { rejection } from '../../support/codes.ts';
import { findServer } from '../../support/server.ts';
import { openInbox } from '../bus/inbox.ts';

const server = await findServer('rabbitmq');

async function opened(options: RabbitBusOptions = {}) {
  const { url } = await freshVhost(server!);
  const { db, url: databaseUrl } = await freshDatabase();
  const identity = await Identity.open(db);
  const bus = new RabbitBus(url, databaseUrl, { identity, partitions: 1, ...options });
  onTestFinished(() => bus.close());
  return { db, bus, identity, clock: new DatabaseClock(), log: silentLog };
}

/** Stores an event that was dispatched. */
const dispatched = (db: Database, id: number) =>
  db.query(
    `insert into events (id, aggregate_id, subject_id, type, occurred_at, data, dispatched_at)
     values ($1, 1, 1, 'post.created', now(), '{}', now())`,
    [id],
  );

const AN_HOUR_AGO = `update settings set value = value || jsonb_build_object('at', now() - interval '1 hour')
  where name = 'feeds.complete'`;

test.skipIf(!server)(
  'feeds are complete up to a moment when a barrier of it has passed all stages',
  async () => {
    const context = await opened();
    const { db, bus, identity } = context;
    const inbox = await openInbox(bus, { queues: ['events'], prefetch: 1 });
    await bus.publish([{ queue: 'events', body: Buffer.from('held'), key: 1 }]);
    const held = await inbox.next();
    await dispatched(db, firstIdAt(Date.now() - 10_000));
    const workers = [keepComplete(context, 50), keepComplete(lateReader(context), 50)];
    const state = async (): Promise<Completeness | undefined> => readCompleteness(db);
    await expect.poll(state).toMatchObject({ lineage: identity.lineage, from: 0 });
    const before = firstIdAt(Date.now() - 60_000);
    await db.query(AN_HOUR_AGO);
    await expect.poll(state).toMatchObject({ from: 0, next: { step: 0 } });
    await new Promise((done) => setTimeout(done, 1_000));
    // A backlog delays it.
    expect(await state()).toMatchObject({ from: 0, next: { step: 0 } });
    held.ack();
    await expect.poll(async () => (await state())!.from).toBeGreaterThan(before);
    expect((await state())!.next).toBeUndefined();
    for (const stop of workers) await stop();
  },
);

test.skipIf(!server)('a cluster without new events needs no barrier', async () => {
  const context = await opened();
  const { db, bus } = context;
  await bus.declare();
  const stop = keepComplete(context, 50);
  await expect.poll(() => readCompleteness(db)).toBeDefined();
  // A message of no event waits in the queue, so a barrier would not pass.
  await bus.publish([{ queue: 'events', body: Buffer.from('held'), key: 1 }]);
  await db.query(AN_HOUR_AGO);
  await expect.poll(async () => (await readCompleteness(db))!.from).toBeGreaterThan(0);
  await stop();
  expect((await db.query('select from bus.marks')).rowCount).toBe(0);
});

test.skipIf(!server)('an event that is not dispatched limits how far feeds are complete', async () => {
  const context = await opened();
  const { db } = context;
  const id = firstIdAt(Date.now() - 3_600_000);
  await db.query(
    `insert into events (id, aggregate_id, subject_id, type, occurred_at, data)
     values ($1, 1, 1, 'post.created', now(), '{}')`,
    [id],
  );
  const stop = keepComplete(context, 50);
  await expect.poll(() => readCompleteness(db)).toBeDefined();
  await db.query(AN_HOUR_AGO);
  await expect.poll(async () => (await readCompleteness(db))!.from).toBe(id);
  await stop();
});

test.skipIf(!server)(
  'after a new lineage the events that may be lost are dispatched again, once',
  async () => {
    const context = await opened();
    const { db, bus, identity } = context;
    const inbox = await openInbox(bus, { queues: ['events.bulk'], prefetch: 10 });
    const [old, recent] = [firstIdAt(Date.now() - 3_600_000), firstIdAt(Date.now() - 10_000)];
    await db.query(
      `insert into events (id, aggregate_id, subject_id, type, occurred_at, data, dispatched_at)
     select id, 1, id, 'post.created', now(), '{}', now() from unnest($1::bigint[]) id`,
      [[old, recent]],
    );
    // Each of them learns of the lineage at once, and only the first may dispatch.
    const workers = Array.from({ length: 6 }, () => keepComplete(context, 50));
    workers.push(keepComplete(lateReader(context), 50));
    await expect.poll(() => readCompleteness(db)).toBeDefined();
    await db.query(AN_HOUR_AGO);
    await expect.poll(async () => (await readCompleteness(db))!.from).toBeGreaterThan(recent);
    await identity.renew('a test');
    const delivery = await inbox.next();
    const { events, feedsOnly } = decodeEvents(delivery.body);
    expect([events.map(({ id }) => id), feedsOnly]).toEqual([[recent], true]);
    await expect
      .poll(() => readCompleteness(db))
      .toMatchObject({ lineage: identity.lineage, from: expect.any(Number) });
    for (const stop of workers) await stop();
    expect(inbox.waiting).toEqual([]);
    const { rows } = await db.query(`select state from operations where kind = 'redispatch'`);
    expect(rows).toEqual([{ state: 'done' }]);
  },
);

/** A worker that acts on the state of the earlier lineage after another worker has finished. */
function lateReader(context: Awaited<ReturnType<typeof opened>>): CompletenessContext {
  let isLate = false;
  const { identity } = context;
  const finished = async () => (await readCompleteness(context.db))!.lineage === identity.lineage;
  const db = new Proxy(context.db, {
    get(target, name) {
      const found: unknown = Reflect.get(target, name, target);
      if (name !== 'query') return typeof found === 'function' ? found.bind(target) : found;
      return async (...args: Parameters<typeof target.query>) => {
        const result = await target.query(...args);
        if (isLate) await poll(finished, { everyMs: 10, timeoutMs: 20_000 });
        isLate = false;
        return result;
      };
    },
  });
  return {
    ...context,
    db,
    identity: {
      get lineage() {
        return identity.lineage;
      },
      watch: (changed) => identity.watch(changed),
      refresh: async () => {
        await identity.refresh();
        isLate = true;
      },
    },
  };
}

test('the queue in the database needs no new dispatch', async () => {
  const { db, bus, clock } = await testCluster();
  const identity = await Identity.open(db);
  const stop = keepComplete({ db, bus, identity, clock, log: silentLog }, 10);
  await identity.renew('a test');
  await stop();
  expect(await readCompleteness(db)).toBeUndefined();
});

test.skipIf(!server)('a full queue, which takes no barrier, holds up no shutdown', async () => {
  const context = await opened({ maxMessages: 1 });
  const { db, bus } = context;
  const publish = () => bus.publish([{ queue: 'events', body: Buffer.from('waits'), key: 1 }]);
  const isFull = async () => (await rejection(publish()))?.code === 'QUEUE_FULL';
  await expect.poll(isFull).toBe(true);
  await dispatched(db, firstIdAt(Date.now()));
  const stop = keepComplete(context, 50);
  await expect.poll(() => readCompleteness(db)).toBeDefined();
  await db.query(AN_HOUR_AGO);
  await expect.poll(async () => (await db.query('select from bus.marks')).rowCount).toBe(1);
  await stop();
  expect((await readCompleteness(db))!.next).toBeUndefined();
});
