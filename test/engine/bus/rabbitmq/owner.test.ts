import { type ConsumeMessage, connect } from 'amqplib';
import { expect, onTestFinished, test, vi } from 'vitest';
import type { Outgoing } from '../../../../src/engine/bus/bus.ts';
import { RabbitBus, type RabbitBusOptions } from '../../../../src/engine/bus/rabbitmq/bus.ts';
import { ORIGIN } from '../../../../src/engine/bus/rabbitmq/origins.ts';
import { nextLookMs } from '../../../../src/engine/bus/rabbitmq/reader.ts';
import { adoptBroker } from '../../../../src/engine/cluster/adoptBroker.ts';
import { loadConfig } from '../../../../src/engine/config/config.ts';
import { Database } from '../../../../src/engine/database/database.ts';
import { openReadiness } from '../../../../src/engine/fleet/readiness.ts';
import { Identity } from '../../../../src/engine/identity/identity.ts';
import { type Log, silentLog } from '../../../../src/engine/telemetry/log.ts';
import { freshVhost } from '../../../support/broker.ts';
import { freshDatabase } from '../../../support/cluster.ts';
import { rejection } from '../../../support/codes.ts';
import { findServer } from '../../../support/server.ts';
import { openInbox } from '../inbox.ts';

const server = await findServer('rabbitmq');

function opened(url: string, databaseUrl: string, options: RabbitBusOptions = {}) {
  const bus = new RabbitBus(url, databaseUrl, { partitions: 2, ...options });
  onTestFinished(() => bus.close());
  return bus;
}

/** Opens a cluster with its own database on a virtual host. */
async function cluster(url: string, options: RabbitBusOptions = {}) {
  const { url: databaseUrl, db } = await freshDatabase();
  const identity = await Identity.open(db);
  return { db, databaseUrl, identity, bus: opened(url, databaseUrl, { identity, ...options }) };
}

const message = (text: string): Outgoing => ({ queue: 'events', body: Buffer.from(text), key: 1 });
const texts = (deliveries: readonly { body: Buffer }[]) => deliveries.map(({ body }) => String(body));

/** Returns the names of the queues that exist, of those that feedctl declares. */
async function queues(url: string, names: readonly string[]): Promise<string[]> {
  const connection = await connect(url);
  const found: string[] = [];
  for (const name of names) {
    const channel = await connection.createChannel();
    channel.on('error', () => {});
    const exists = await channel.checkQueue(name).then(
      () => true,
      () => false,
    );
    if (exists) found.push(name);
  }
  await connection.close();
  return found;
}

/** Publishes a message by hand, with any header. */
async function inject(url: string, text: string, origin?: string): Promise<void> {
  const connection = await connect(url);
  const channel = await connection.createConfirmChannel();
  channel.publish('feed.events', '1', Buffer.from(text), {
    persistent: true,
    timestamp: Math.floor(Date.now() / 1_000),
    ...(origin && { headers: { [ORIGIN]: origin } }),
  });
  await channel.waitForConfirms();
  await connection.close();
}

/** A log that keeps its errors. */
function errorLog(): { log: Log; errors: string[] } {
  const errors: string[] = [];
  return { log: { ...silentLog, error: (fields) => void errors.push(JSON.stringify(fields)) }, errors };
}

test.skipIf(!server)('a virtual host belongs to the cluster that declares its queues first', async () => {
  const { url } = await freshVhost(server!);
  const prod = await cluster(url);
  const staging = await cluster(url, { partitions: 4 });
  // A look at the empty virtual host marks nothing.
  expect((await staging.bus.check()).find(({ name }) => name === 'broker owner')).toMatchObject({
    status: 'ok',
  });
  await prod.bus.declare();
  for (const work of [
    () => staging.bus.declare(),
    () => staging.bus.changePartitions(4),
    () => staging.bus.publish([message('foreign')]),
    () => staging.bus.consume({ queues: ['events'], prefetch: 1 }, () => {}),
    () => opened(url, staging.databaseUrl).depths(),
  ]) {
    const error = await rejection(work());
    expect(error.code).toBe('BROKER_OTHER_CLUSTER');
    expect(error.message).toContain(prod.identity.cluster);
    expect(error.message).toContain(staging.identity.cluster);
  }
  expect(await queues(url, ['feed.cluster', 'feed.events.1', 'feed.events.2'])).toEqual([
    'feed.cluster',
    'feed.events.1',
  ]);
  expect(await staging.bus.health()).toMatchObject({ ready: false, code: 'BROKER_OTHER_CLUSTER' });
  expect(await staging.bus.check()).toContainEqual(
    expect.objectContaining({
      name: 'BROKER_OTHER_CLUSTER',
      status: 'fault',
      fix: expect.stringMatching(/adopt/),
    }),
  );
  expect((await prod.bus.check()).filter(({ status }) => status === 'fault')).toEqual([]);
  await prod.bus.publish([message('own')]);
  const inbox = await openInbox(prod.bus, { queues: ['events'], prefetch: 10 });
  expect(texts(await inbox.take(1))).toEqual(['own']);
  // The other cluster has learned nothing of a broker.
  const { rows } = await staging.db.query(`select from settings where name = 'bus.topology'`);
  expect(rows).toEqual([]);
});

test.skipIf(!server)('two clusters that start at once agree on the owner', async () => {
  const { url } = await freshVhost(server!);
  const both = [await cluster(url), await cluster(url)];
  const ends = await Promise.allSettled(both.map(({ bus }) => bus.declare()));
  expect(ends.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
});

test.skipIf(!server)(
  'a virtual host of an older version is taken by the cluster that has used it',
  async () => {
    const { url } = await freshVhost(server!);
    const old = await cluster(url);
    await old.bus.declare();
    await inject(url, 'of an older version');
    const connection = await connect(url);
    const channel = await connection.createChannel();
    await channel.deleteQueue('feed.cluster');
    await connection.close();
    const other = await cluster(url);
    expect(await rejection(other.bus.declare())).toMatchObject({ code: 'BROKER_OTHER_CLUSTER' });
    expect(await queues(url, ['feed.cluster'])).toEqual([]);
    const updated = opened(url, old.databaseUrl);
    // Its messages without an origin count as own.
    const inbox = await openInbox(updated, { queues: ['events'], prefetch: 10 });
    const [delivery] = await inbox.take(1);
    expect([String(delivery!.body), delivery!.earlier]).toEqual(['of an older version', false]);
    expect(await queues(url, ['feed.cluster'])).toEqual(['feed.cluster']);
  },
);

test.skipIf(!server)(
  'a role whose virtual host is adopted by another cluster stops and says so',
  async () => {
    const { url } = await freshVhost(server!);
    const { log, errors } = errorLog();
    const before = await cluster(url, { log });
    const inbox = await openInbox(before.bus, { queues: ['events'], prefetch: 10 });
    const readiness = openReadiness({ db: before.db, bus: before.bus });
    onTestFinished(() => readiness.close());
    await readiness.check();
    await before.bus.publish([message('of the owner before')]);
    await inbox.take(1);
    const after = await cluster(url);
    const config = await loadConfig({}, { FEEDCTL_BROKER_URL: url });
    expect(await adoptBroker(config, after.db)).toBe(before.identity.cluster);
    await expect.poll(() => before.bus.refusal()?.code, { timeout: 5_000 }).toBe('BROKER_OTHER_CLUSTER');
    expect(errors.join()).toContain(before.identity.cluster);
    expect(errors.join()).toContain(after.identity.cluster);
    expect(await rejection(readiness.check())).toMatchObject({ code: 'BROKER_OTHER_CLUSTER' });
    expect(await rejection(before.bus.publish([message('x')]))).toMatchObject({
      code: 'BROKER_OTHER_CLUSTER',
    });
    // The message of the cluster that is gone is dropped.
    const taken = await openInbox(after.bus, { queues: ['events'], prefetch: 10 });
    await after.bus.publish([message('mine')]);
    expect(texts(await taken.take(1))).toEqual(['mine']);
    expect(await after.bus.adopt()).toBeUndefined();
  },
);

test.skipIf(!server)(
  'a message of another cluster stays in its place, and its queue is refused',
  async () => {
    const { url } = await freshVhost(server!);
    const { log, errors } = errorLog();
    const { bus, identity, databaseUrl } = await cluster(url, { partitions: 1, log });
    const inbox = await openInbox(bus, { queues: ['events'], prefetch: 10 });
    await inject(url, 'foreign', 'aaaaaaaaaaaa.bbbbbbbbbbbb.1-cccccccccccc');
    await expect.poll(() => bus.refusal()?.code).toBe('BROKER_OTHER_CLUSTER');
    await bus.publish([message('behind it')]);
    expect(errors.join()).toMatch(/aaaaaaaaaaaa/);
    expect(errors.join()).toContain(identity.cluster);
    expect(await bus.health()).toMatchObject({ ready: false, code: 'BROKER_OTHER_CLUSTER' });
    const doctor = opened(url, databaseUrl);
    await expect
      .poll(() => doctor.check())
      .toContainEqual(expect.objectContaining({ name: 'BROKER_OTHER_CLUSTER', status: 'fault' }));
    await new Promise((done) => setTimeout(done, 3_000));
    expect(inbox.waiting).toEqual([]);
    expect((await bus.depths())[0]).toMatchObject({ queue: 'events', ready: 2 });
    expect((await doctor.peek('events', 10)).map(({ body }) => String(body))).toEqual([
      'foreign',
      'behind it',
    ]);
    // Its cluster comes back for it.
    const connection = await connect(url);
    const channel = await connection.createChannel();
    await channel.prefetch(1);
    await channel.consume('feed.events.0', (one) => one && channel.ack(one), { priority: 1 });
    await expect.poll(() => bus.refusal(), { timeout: 20_000 }).toBeUndefined();
    await connection.close();
  },
);

test('a refused queue is looked at soon at first, and a hundred looks take most of a day', () => {
  const looks = Array.from({ length: 100 }, (_, i) => nextLookMs(i + 1));
  expect(looks.slice(0, 5)).toEqual([5_000, 10_000, 20_000, 40_000, 60_000]);
  expect(looks[30]).toBe(60_000);
  expect(looks.at(-1)).toBe(600_000);
  // The broker dead-letters a message that was handed out 100 times.
  expect(looks.reduce((sum, ms) => sum + ms)).toBeGreaterThan(10 * 3_600_000);
});

test.skipIf(!server)('a refused queue is looked at as soon as messages have left it', async () => {
  const { url } = await freshVhost(server!);
  const { bus } = await cluster(url, { partitions: 1 });
  const inbox = await openInbox(bus, { queues: ['events'], prefetch: 10 });
  vi.useFakeTimers({ toFake: ['performance'] });
  onTestFinished(() => void vi.useRealTimers());
  await inject(url, 'foreign', 'aaaaaaaaaaaa.bbbbbbbbbbbb.1-cccccccccccc');
  await bus.publish([message('behind it')]);
  await expect.poll(() => bus.refusal()?.code).toBe('BROKER_OTHER_CLUSTER');
  // The second look: the third one is 10 s later, by a clock that stands still.
  const heartbeats = () => new Promise((done) => setTimeout(done, 2_500));
  vi.advanceTimersByTime(5_001);
  await heartbeats();
  const connection = await connect(url);
  onTestFinished(() => connection.close());
  const channel = await connection.createChannel();
  await channel.prefetch(1);
  const [foreign] = await new Promise<ConsumeMessage[]>((done) => {
    void channel.consume('feed.events.0', (one) => one && done([one]));
  });
  expect(String(foreign!.content)).toBe('foreign');
  expect(foreign!.properties.headers?.['x-delivery-count']).toBeLessThan(4);
  channel.ack(foreign!);
  await channel.close();
  await heartbeats();
  expect(inbox.waiting).toEqual([]);
  vi.advanceTimersByTime(5_001);
  expect(texts(await inbox.take(1))).toEqual(['behind it']);
  expect(bus.refusal()).toBeUndefined();
});

test.skipIf(!server)('messages of unknown histories stay until an operator adopts the broker', async () => {
  const { url } = await freshVhost(server!);
  const { bus, identity, databaseUrl } = await cluster(url, { partitions: 1 });
  const inbox = await openInbox(bus, { queues: ['events'], prefetch: 10 });
  await inject(url, 'unknown lineage', `${identity.cluster}.bbbbbbbbbbbb.1-cccccccccccc`);
  await expect.poll(() => bus.refusal()?.code).toBe('BROKER_OTHER_LINEAGE');
  await inject(url, 'unknown mark', `${identity.cluster}.${identity.lineage}.99-cccccccccccc`);
  await bus.publish([message('present')]);
  await new Promise((done) => setTimeout(done, 1_500));
  expect(inbox.waiting).toEqual([]);
  expect(await opened(url, databaseUrl).adopt()).toBeUndefined();
  const taken: unknown[] = [];
  for (let i = 0; i < 3; i += 1) {
    const delivery = await inbox.next();
    taken.push([String(delivery.body), delivery.earlier]);
    delivery.ack();
  }
  expect(taken).toEqual([
    ['unknown lineage', true],
    ['unknown mark', true],
    ['present', false],
  ]);
  await expect.poll(() => bus.refusal()).toBeUndefined();
  expect(await bus.health()).toMatchObject({ ready: true });
});

test.skipIf(!server)('messages and barriers of an earlier history are known as such', async () => {
  const { url } = await freshVhost(server!);
  const { bus, identity, databaseUrl } = await cluster(url, { partitions: 1 });
  const inbox = await openInbox(bus, { queues: ['events'], prefetch: 10 });
  await bus.publish([message('before')]);
  const barrier = await bus.placeBarrier(['events']);
  const [before] = await inbox.take(1);
  expect(before!.earlier).toBe(false);
  expect(await bus.hasPassed(barrier)).toBe(false);
  // Another process opens a new lineage.
  const another = new Database(databaseUrl);
  onTestFinished(() => another.close());
  const elsewhere = await Identity.open(another);
  await elsewhere.renew('a test');
  const publisher = opened(url, databaseUrl, { identity: elsewhere });
  await publisher.publish([message('after')]);
  const [after] = await inbox.take(1);
  expect(identity.lineage).toBe(elsewhere.lineage);
  expect([before!.earlier, after!.earlier]).toEqual([true, false]);
  expect(await bus.hasPassed(barrier)).toBe(true);
  await publisher.publish([{ ...message('made before'), lineage: barrier.lineage }]);
  expect((await inbox.take(1)).map(({ earlier }) => earlier)).toEqual([true]);
});

test.skipIf(!server)(
  'dead letters of a cluster that is gone are dropped, and hide no other ones',
  async () => {
    const { url } = await freshVhost(server!);
    const before = await cluster(url, { partitions: 1 });
    const inbox = await openInbox(before.bus, { queues: ['events'], prefetch: 10 });
    await before.bus.publish([message('of the earlier cluster')]);
    (await inbox.next()).deadLetter('a test');
    const waiting = async () => (await before.bus.depths()).map(({ deadLetters }) => deadLetters);
    await expect.poll(waiting).toEqual([1]);
    await before.bus.close();
    const after = await cluster(url, { partitions: 1 });
    await after.bus.adopt();
    const own = await openInbox(after.bus, { queues: ['events'], prefetch: 10 });
    await after.bus.publish([message('of this cluster')]);
    (await own.next()).deadLetter('a test');
    await expect.poll(() => after.bus.depths()).toMatchObject([{ deadLetters: 2 }]);
    await after.bus.collectDeadLetters();
    const { rows } = await after.db.query<{ body: Buffer }>('select body from bus.dead_letters');
    expect(texts(rows)).toEqual(['of this cluster']);
    await expect.poll(() => after.bus.depths()).toMatchObject([{ deadLetters: 1 }]);
  },
);
