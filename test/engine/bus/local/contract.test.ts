import { expect, onTestFinished, test } from 'vitest';
import type { Bus } from '../../../../src/engine/bus/bus.ts';
import { LocalBus } from '../../../../src/engine/bus/local/bus.ts';
import { Identity } from '../../../../src/engine/identity/identity.ts';
import { encodeEvents } from '../../../../src/engine/model/messages.ts';
import { RowsMessage } from '../../../../src/engine/model/rowsMessage.ts';
import { readBacklog } from '../../../../src/engine/queues/backlog.ts';
import { freshDatabase } from '../../../support/cluster.ts';
import { rejection } from '../../../support/codes.ts';
import { openProxy } from '../../../support/proxy.ts';
import { busContract } from '../contract.ts';
import { openInbox } from '../inbox.ts';

busContract('local', async () => {
  const { url, db } = await freshDatabase();
  return {
    taker: [url],
    db,
    async open(options) {
      const bus = new LocalBus(url, options);
      onTestFinished(() => bus.close());
      return bus;
    },
  };
});

const messages = (count: number) =>
  Array.from({ length: count }, (_, i) => ({ queue: 'events' as const, body: Buffer.from(String(i)) }));

test('a backlog is in events and feed rows, of messages that wait and in flight', async () => {
  const { url } = await freshDatabase();
  const bus = new LocalBus(url);
  onTestFinished(() => bus.close());
  const header = { importId: 0, committedAt: 1, feedsOnly: true, bulk: true } as const;
  const event = (id: number) => ({ id, type: 'post.created' as const, aggregateId: 1, subjectId: id });
  const posts = { authorId: 1, postIds: [1, 2, 3] };
  const rows = new RowsMessage();
  for (const user of [7, 8]) rows.add(0, user, posts);
  await bus.publish([
    { queue: 'events.bulk', body: encodeEvents(header, [event(1), event(2)]) },
    { queue: 'events.bulk', body: encodeEvents(header, [event(3)]) },
    { queue: 'rows.bulk', body: rows.seal(header) },
    // Too short for a header: it counts as the mean of the others.
    { queue: 'rows.bulk', body: Buffer.from('damaged') },
    { queue: 'cleanup', body: Buffer.from('{}') },
  ]);
  const inbox = await openInbox(bus, { queues: ['events.bulk'], prefetch: 1 });
  await inbox.next();
  const backlog = await readBacklog(bus);
  expect(backlog.map(({ queue, records, recordUnit }) => [queue, records, recordUnit])).toEqual([
    ['cleanup', null, null],
    ['events.bulk', 3, 'events'],
    ['rows.bulk', 12, 'rows'],
  ]);
  expect(
    await readBacklog({ ...bus, depths: () => bus.depths(), records: undefined } as unknown as Bus),
  ).toContainEqual(expect.objectContaining({ queue: 'rows.bulk', records: null, recordUnit: 'rows' }));
});

test('a message that is given back by others while it is held is not handed out twice', async () => {
  const { url, db } = await freshDatabase();
  const bus = new LocalBus(url);
  onTestFinished(() => bus.close());
  await bus.publish(messages(1));
  const inbox = await openInbox(bus, { queues: ['events'], prefetch: 10 });
  const held = await inbox.next();
  // Another consumer does this if it takes this one for dead.
  await db.query('update bus.messages set consumer = null, visible_at = now()');
  await bus.publish([{ queue: 'events', body: Buffer.from('next') }]);
  const next = await inbox.next();
  expect(next.body.toString()).toBe('next');
  held.ack();
  next.ack();
  await expect.poll(() => bus.depths()).toEqual([]);
  expect(inbox.waiting).toEqual([]);
});

test('answers given while the database is away are not left to the end of the lease', async () => {
  const { url, db } = await freshDatabase();
  const proxy = await openProxy(url);
  const bus = new LocalBus(proxy.url);
  onTestFinished(() => bus.close());
  await bus.publish(messages(3));
  const inbox = await openInbox(bus, { queues: ['events'], prefetch: 10 });
  const [first, second, third] = [await inbox.next(), await inbox.next(), await inbox.next()];
  proxy.cut();
  first.ack();
  second.retry(600_000);
  third.deadLetter('no good');
  // Each of them has failed by then.
  await expect(bus.depths()).rejects.toThrow();
  proxy.open();
  const left = async () => (await db.query('select consumer from bus.messages')).rows;
  await expect.poll(left, { timeout: 20_000 }).toEqual([{ consumer: null }]);
  expect((await db.query('select reason from bus.dead_letters')).rows).toEqual([{ reason: 'no good' }]);
});

test('retries that come again before they are released do not use up the prefetch', async () => {
  const { url } = await freshDatabase();
  const bus = new LocalBus(url);
  onTestFinished(() => bus.close());
  await bus.publish(messages(50));
  let done = 0;
  const tries = new Map<string, number>();
  const consumer = await bus.consume({ queues: ['events'], prefetch: 4 }, (deliveries) => {
    for (const delivery of deliveries) {
      const body = delivery.body.toString();
      const tried = (tries.get(body) ?? 0) + 1;
      tries.set(body, tried);
      if (tried < 5) delivery.retry(0);
      else {
        done += 1;
        delivery.ack();
      }
    }
  });
  await expect.poll(() => done).toBe(50);
  await bus.publish(messages(50).map((message) => ({ ...message, body: Buffer.from('again') })));
  await expect.poll(() => bus.depths()).toEqual([]);
  await consumer.stop(60_000);
});

test('a consumer whose sessions are all ended goes on', async () => {
  const { url, db } = await freshDatabase();
  const bus = new LocalBus(url);
  onTestFinished(() => bus.close());
  const seen = new Set<string>();
  await bus.consume({ queues: ['events'], prefetch: 2 }, (deliveries) => {
    for (const delivery of deliveries) {
      seen.add(delivery.body.toString());
      delivery.ack();
    }
  });
  for (let round = 0; round < 3; round += 1) {
    await db.query(
      `select pg_terminate_backend(pid) from pg_stat_activity
       where datname = current_database() and pid <> pg_backend_pid()`,
    );
    await expect
      .poll(() =>
        bus.publish(messages(20)).then(
          () => true,
          () => false,
        ),
      )
      .toBe(true);
  }
  await expect.poll(() => bus.depths()).toEqual([]);
  expect(seen.size).toBe(20);
});

test('sessions of another cluster’s database are refused: its queues have the same names', async () => {
  const [own, other] = [await freshDatabase(), await freshDatabase()];
  await Identity.open(other.db);
  const bus = new LocalBus(other.url, { identity: await Identity.open(own.db) });
  onTestFinished(() => bus.close());
  expect(await rejection(bus.publish(messages(1)))).toMatchObject({ code: 'DATABASE_OTHER_CLUSTER' });
  expect(await rejection(openInbox(bus, { queues: ['events'], prefetch: 1 }))).toMatchObject({
    code: 'DATABASE_OTHER_CLUSTER',
  });
});
