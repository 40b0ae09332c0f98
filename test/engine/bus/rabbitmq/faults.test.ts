import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, connect as tcpConnect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect } from 'amqplib';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { Bus } from '../../../../src/engine/bus/bus.ts';
import { RabbitBus, type RabbitBusOptions } from '../../../../src/engine/bus/rabbitmq/bus.ts';
import { openReadiness } from '../../../../src/engine/fleet/readiness.ts';
import { silentLog } from '../../../../src/engine/telemetry/log.ts';
import { ServerUrl } from '../../../../src/engine/util/serverUrl.ts';
import { freshVhost } from '../../../support/broker.ts';
import { freshDatabase } from '../../../support/cluster.ts';
import { rejection } from '../../../support/codes.ts';
import { management, type RabbitOptions, startRabbit } from '../../../support/rabbitmq.ts';
import { findServer } from '../../../support/server.ts';
import { openInbox } from '../inbox.ts';

const server = await findServer('rabbitmq');

const message = (text: string, key = 0) => ({ queue: 'events' as const, body: Buffer.from(text), key });

function opened(url: string, databaseUrl: string, options: RabbitBusOptions = {}): RabbitBus {
  const bus = new RabbitBus(url, databaseUrl, { partitions: 2, ...options });
  onTestFinished(() => bus.close());
  return bus;
}

async function privateRabbit(options: RabbitOptions = {}) {
  const directory = await mkdtemp(join(tmpdir(), 'feedctl-rabbit-'));
  const rabbit = await startRabbit(directory, options);
  onTestFinished(async () => {
    await rabbit.stop();
    await rm(directory, { recursive: true, force: true });
  });
  return rabbit;
}

/** Opens a proxy of the broker that can be cut and that may alter the broker's answers. */
async function openProxy(port: number, alter: (bytes: Buffer) => Buffer = (bytes) => bytes) {
  const sockets = new Set<{ destroy(): void }>();
  const proxy = createServer((client) => {
    const broker = tcpConnect(port, '127.0.0.1');
    sockets.add(client).add(broker);
    client.on('error', () => {}).on('close', () => broker.destroy());
    broker.on('error', () => {}).on('close', () => client.destroy());
    client.pipe(broker);
    broker.on('data', (bytes: Buffer) => client.write(alter(bytes)));
  });
  await new Promise<void>((done) => proxy.listen(0, '127.0.0.1', done));
  const cut = () => {
    for (const socket of sockets) socket.destroy();
    sockets.clear();
  };
  onTestFinished(() => {
    cut();
    proxy.close();
  });
  return { port: (proxy.address() as { port: number }).port, cut };
}

const through = (url: string, port: number): string => {
  const proxied = new URL(url);
  proxied.port = String(port);
  return proxied.href;
};

/** Publishes numbers until it is stopped, with retries. `confirmed` has the confirmed ones. */
function keepPublishing(bus: Bus) {
  const confirmed = new Set<string>();
  let going = true;
  const done = (async () => {
    for (let i = 0; going; i += 1) {
      const texts = Array.from({ length: 20 }, (_, j) => `${i}.${j}`);
      try {
        await bus.publish(texts.map((text, j) => message(text, j)));
        for (const text of texts) confirmed.add(text);
      } catch {
        await new Promise((again) => setTimeout(again, 20));
      }
    }
  })();
  return {
    confirmed,
    async stop() {
      going = false;
      await done;
    },
  };
}

async function keepConsuming(bus: Bus) {
  const seen = new Set<string>();
  await bus.consume({ queues: ['events'], prefetch: 20 }, (deliveries) => {
    for (const delivery of deliveries)
      setTimeout(() => {
        seen.add(delivery.body.toString());
        delivery.ack();
      }, 1);
  });
  return seen;
}

const settled = async (bus: Bus) => {
  const barrier = await bus.placeBarrier(['events']);
  await expect.poll(() => bus.hasPassed(barrier)).toBe(true);
};

describe.skipIf(!server)('connections', () => {
  test('that break lose nothing that was confirmed', async () => {
    const { url } = await freshVhost(server!);
    const proxy = await openProxy(Number(new URL(url).port));
    const db = (await freshDatabase()).url;
    const bus = opened(through(url, proxy.port), db);
    const seen = await keepConsuming(bus);
    const publishing = keepPublishing(bus);
    for (let round = 0; round < 8; round += 1) {
      const before = publishing.confirmed.size;
      await expect.poll(() => publishing.confirmed.size).toBeGreaterThan(before + 100);
      proxy.cut();
    }
    await publishing.stop();
    await expect
      .poll(() =>
        settled(bus).then(
          () => true,
          () => false,
        ),
      )
      .toBe(true);
    expect([...publishing.confirmed].filter((text) => !seen.has(text))).toEqual([]);
    await expect.poll(() => bus.depths()).toEqual([]);
  });

  test('what is settled after its connection has gone is delivered again, and no mark passes it', async () => {
    const { url } = await freshVhost(server!);
    const proxy = await openProxy(Number(new URL(url).port));
    const db = (await freshDatabase()).url;
    const bus = opened(through(url, proxy.port), db);
    const direct = opened(url, db);
    await direct.publish(['acked', 'tried', 'dead'].map((text) => message(text)));
    const inbox = await openInbox(bus, { queues: ['events'], prefetch: 10 });
    const [acked, tried, dead] = await inbox.take(3);
    const barrier = await direct.placeBarrier(['events']);
    proxy.cut();
    const again = await inbox.take(3);
    expect(again.map((delivery) => delivery.body.toString())).toEqual(['acked', 'tried', 'dead']);
    for (const delivery of again) delivery.ack();
    // The first ones are still in flight here: they may write after the barrier.
    await new Promise((done) => setTimeout(done, 300));
    expect(await direct.hasPassed(barrier)).toBe(false);
    acked!.ack();
    tried!.retry(0);
    dead!.deadLetter('too late');
    await expect.poll(() => direct.hasPassed(barrier)).toBe(true);
    await expect.poll(() => direct.depths()).toEqual([]);
    expect(inbox.waiting).toEqual([]);
  });

  test('move on to the next broker of several', async () => {
    const { url } = await freshVhost(server!);
    const db = (await freshDatabase()).url;
    const proxy = await openProxy(Number(new URL(url).port));
    const bus = opened(`${through(url, 1)},${through(url, proxy.port)}, ${url}`, db);
    const seen = await keepConsuming(bus);
    await bus.publish([message('first')]);
    proxy.cut();
    await expect
      .poll(() =>
        bus.publish([message('second')]).then(
          () => true,
          () => false,
        ),
      )
      .toBe(true);
    await expect.poll(() => [...seen].sort()).toEqual(['first', 'second']);
  });
});

describe.skipIf(!server)('a broker', () => {
  // The short form of chaos kills a broker with -9.
  test('that restarts in order under load loses nothing', { timeout: 180_000 }, async () => {
    const rabbit = await privateRabbit();
    const db = (await freshDatabase()).url;
    const publisher = opened(rabbit.url, db);
    const consumer = opened(rabbit.url, db);
    const seen = await keepConsuming(consumer);
    const publishing = keepPublishing(publisher);
    await expect.poll(() => publishing.confirmed.size).toBeGreaterThan(500);
    await rabbit.down('stop');
    await rabbit.up();
    const before = publishing.confirmed.size;
    await expect.poll(() => publishing.confirmed.size).toBeGreaterThan(before + 500);
    await publishing.stop();
    await settled(publisher);
    expect([...publishing.confirmed].filter((text) => !seen.has(text))).toEqual([]);
    await expect.poll(() => publisher.depths()).toEqual([]);
  });

  test('with an alarm holds producers up, and consumers go on', { timeout: 120_000 }, async () => {
    const rabbit = await privateRabbit();
    const db = (await freshDatabase()).url;
    const bus = opened(rabbit.url, db);
    await bus.publish([message('before')]);
    // A role that publishes nothing of its own.
    const role = opened(rabbit.url, db);
    await role.consume({ queues: ['cleanup'], prefetch: 1 }, () => {});
    const readiness = openReadiness({ db: { server: new ServerUrl(db) }, bus: role });
    onTestFinished(() => readiness.close());
    const isReady = () =>
      readiness.check().then(
        () => true,
        (error) => error.code,
      );
    expect(await isReady()).toBe(true);
    // A limit below the memory that it uses already.
    await rabbit.evaluate('vm_memory_monitor:set_vm_memory_high_watermark(0.00001)');
    // A connection is blocked at its next publish after the alarm, which the broker raises within moments.
    const noticing: Promise<void>[] = [];
    const publishing = () => {
      noticing.push(bus.publish([message('notices')]).catch(() => {}));
      return bus.blocked;
    };
    await expect.poll(publishing, { interval: 3_000 }).toBeDefined();
    expect(await bus.check()).toContainEqual(
      expect.objectContaining({ name: 'broker alarms', status: 'fault', fix: expect.any(String) }),
    );
    await expect.poll(isReady, { timeout: 15_000 }).toBe('BROKER_BLOCKED');
    // A consumer that stops meanwhile is not delayed.
    const stopping = opened(rabbit.url, db);
    void stopping.publish([message('never')]).catch(() => {});
    await expect.poll(() => stopping.blocked).toBeDefined();
    await stopping.close();
    const held = bus.publish([message('held up')]);
    const inbox = await openInbox(bus, { queues: ['events'], prefetch: 50 });
    const first = await inbox.next();
    expect(first.body.toString()).toBe('before');
    first.ack();
    expect(
      await Promise.race([
        held.then(
          () => 'out',
          () => 'failed',
        ),
        new Promise((done) => setTimeout(done, 500, 'held')),
      ]),
    ).toBe('held');
    await rabbit.evaluate('vm_memory_monitor:set_vm_memory_high_watermark(0.4)');
    await Promise.all([held, ...noticing]);
    await expect.poll(() => inbox.waiting.some((one) => one.body.toString() === 'held up')).toBe(true);
    await expect.poll(isReady, { timeout: 15_000 }).toBe(true);
  });

  test('whose consumer timeout is over gets its messages back, and that is logged', {
    timeout: 240_000,
  }, async () => {
    const rabbit = await privateRabbit();
    await rabbit.evaluate('application:set_env(rabbit, consumer_timeout, 2000)');
    await rabbit.evaluate('application:set_env(rabbit, channel_tick_interval, 1000)');
    const lines: string[] = [];
    const log = { ...silentLog, warn: (_: object, text: string) => void lines.push(text) };
    const bus = opened(rabbit.url, (await freshDatabase()).url, { log });
    await bus.publish([message('slow')]);
    const inbox = await openInbox(bus, { queues: ['events'], prefetch: 10 });
    const slow = await inbox.next();
    const again = await inbox.next();
    expect(again.body.toString()).toBe('slow');
    expect(lines).toContainEqual(expect.stringMatching(/^(channel closed|consumer cancelled by the broker)/));
    // The first one is settled late: it belongs to a consumer that has ended.
    slow.ack();
    again.ack();
    await settled(bus);
    await bus.publish([message('next')]);
    const next = await inbox.next();
    expect(next.body.toString()).toBe('next');
    next.ack();
    await expect.poll(() => bus.depths()).toEqual([]);
  });

  test('that cancels a consumer is consumed again, and that is logged', async () => {
    const { url, managementUrl } = await freshVhost(server!);
    const lines: object[] = [];
    const log = {
      ...silentLog,
      warn: (fields: object, text: string) => void lines.push({ ...fields, text }),
    };
    const bus = opened(url, (await freshDatabase()).url, { log, partitions: 1 });
    await bus.publish([message('held')]);
    const inbox = await openInbox(bus, { queues: ['events'], prefetch: 10 });
    const held = await inbox.next();
    await management(managementUrl, 'DELETE', `queues/${new URL(url).pathname.slice(1)}/feed.events.0`);
    await expect
      .poll(() => lines)
      .toContainEqual({
        queue: 'feed.events.0',
        unacked: 1,
        heldMs: expect.any(Number),
        text: expect.stringContaining('consumer cancelled by the broker'),
      });
    held.ack();
    await expect
      .poll(() =>
        bus.publish([message('next')]).then(
          () => true,
          () => false,
        ),
      )
      .toBe(true);
    expect((await inbox.next()).body.toString()).toBe('next');
  });

  test('with malformed markers, origins and dead letters of other programs goes on', async () => {
    const { url } = await freshVhost(server!);
    const { url: databaseUrl, db } = await freshDatabase();
    const bus = opened(url, databaseUrl, { partitions: 1 });
    await bus.declare();
    const connection = await connect(url);
    onTestFinished(() => connection.close());
    const channel = await connection.createConfirmChannel();
    const marker = { type: 'feedctl.mark', correlationId: 'no number' };
    channel.sendToQueue('feed.events.0', Buffer.from('marker'), marker);
    channel.sendToQueue('feed.dead.events', Buffer.from('letter'), {
      headers: { reason: 'a zero \0', queue: '\0' },
    });
    channel.sendToQueue('feed.dead.events', Buffer.from('other'), { headers: { 'x-death': 'no list' } });
    await channel.waitForConfirms();
    const inbox = await openInbox(bus, { queues: ['events'], prefetch: 10 });
    const barrier = await bus.placeBarrier(['events']);
    (await inbox.next()).deadLetter('cannot be read');
    await expect.poll(() => bus.hasPassed(barrier)).toBe(true);
    const bodies = async () => {
      await bus.collectDeadLetters();
      const { rows } = await db.query<{ body: Buffer }>('select body from bus.dead_letters');
      return rows.map(({ body }) => body.toString()).sort();
    };
    await expect.poll(bodies).toEqual(['letter', 'marker', 'other']);
    channel.sendToQueue('feed.events.0', Buffer.from('a'), { headers: { 'feedctl-origin': 42 } });
    await expect.poll(() => bus.refusal()).toMatchObject({ code: 'BROKER_OTHER_CLUSTER' });
  });

  test('without the plugin is told so', { timeout: 120_000 }, async () => {
    const rabbit = await privateRabbit({ plugins: [] });
    const db = (await freshDatabase()).url;
    const bus = opened(rabbit.url, db);
    expect(await rejection(bus.publish([message('a')]))).toMatchObject({ code: 'BROKER_PLUGIN_MISSING' });
  });

  test('that is too old is told so', async () => {
    const { url } = await freshVhost(server!);
    const version = await await connect(url).then(async (connection) => {
      const { version } = connection.connection.serverProperties;
      await connection.close();
      return version;
    });
    // No older broker is available: the proxy changes the version.
    const proxy = await openProxy(Number(new URL(url).port), (bytes) => {
      const at = bytes.indexOf(version);
      if (at >= 0) bytes.write('3.9.99999'.slice(0, version.length), at);
      return bytes;
    });
    const db = (await freshDatabase()).url;
    expect(await rejection(opened(through(url, proxy.port), db).publish([message('a')]))).toMatchObject({
      code: 'BROKER_TOO_OLD',
      message: expect.stringContaining('3.9.'),
    });
    expect(await opened(through(url, proxy.port), db).check()).toMatchObject([
      { name: 'BROKER_TOO_OLD', status: 'fault' },
    ]);
  });

  test('that was emptied is set up again by whoever publishes', async () => {
    const { url, managementUrl } = await freshVhost(server!);
    const db = (await freshDatabase()).url;
    const bus = opened(url, db);
    await bus.publish([message('a')]);
    const vhost = new URL(url).pathname.slice(1);
    await management(managementUrl, 'DELETE', `queues/${vhost}/feed.events.0`);
    await management(managementUrl, 'DELETE', `queues/${vhost}/feed.events.1`);
    await bus.publish([message('b')]);
    await management(managementUrl, 'DELETE', `exchanges/${vhost}/feed.events`);
    await bus.publish([message('c')]);
    const inbox = await openInbox(bus, { queues: ['events'], prefetch: 10 });
    expect((await inbox.take(2)).map((one) => one.body.toString())).toEqual(['b', 'c']);
  });

  test.for([
    ['an exchange', 'exchanges', 'feed.fanout', { type: 'topic', durable: true }],
    ['a queue', 'queues', 'feed.cleanup', { durable: true }],
  ] as const)('with %s declared in another way is told so', async ([, kind, name, how]) => {
    const { url, managementUrl } = await freshVhost(server!);
    await management(managementUrl, 'PUT', `${kind}/${new URL(url).pathname.slice(1)}/${name}`, how);
    const db = (await freshDatabase()).url;
    const bus = opened(url, db);
    expect(await rejection(bus.declare())).toMatchObject({
      code: 'BROKER_TOPOLOGY_MISMATCH',
      message: expect.stringContaining(name),
    });
  });
});

test.skipIf(!server)(
  'a message that takes its consumer down every time is put aside by the broker',
  async () => {
    const { url } = await freshVhost(server!);
    const db = (await freshDatabase()).url;
    const bus = opened(url, db, { partitions: 1 });
    await bus.publish([message('deadly')]);
    // Consumers that die with the message in flight, as a killed process does.
    const connection = await connect(url);
    onTestFinished(() => connection.close());
    let deaths = 0;
    for (; (await bus.depths())[0]!.ready > 0; deaths += 1) {
      const channel = await connection.createChannel();
      const taken = Promise.withResolvers<void>();
      await channel.consume('feed.events.0', () => taken.resolve());
      await taken.promise;
      await channel.close();
      await expect.poll(async () => (await bus.depths()).length, { interval: 5 }).toBe(1);
    }
    expect(deaths).toBeGreaterThan(50);
    expect(await bus.depths()).toMatchObject([{ queue: 'events', ready: 0, deadLetters: 1 }]);
    await bus.publish([message('good')]);
    const inbox = await openInbox(bus, { queues: ['events'], prefetch: 1 });
    expect((await inbox.next()).body.toString()).toBe('good');
  },
);

test.skipIf(!server)('markers that another database has left in the virtual host pass no mark', async () => {
  const { url } = await freshVhost(server!);
  const before = opened(url, (await freshDatabase()).url);
  const after = opened(url, (await freshDatabase()).url);
  await before.publish([message('a')]);
  for (let i = 0; i < 3; i += 1) await before.placeBarrier(['events']);
  await before.close();
  await after.adopt();
  await after.publish([message('b')]);
  const marks = await Promise.all([after.placeBarrier(['events']), after.placeBarrier(['events'])]);
  const inbox = await openInbox(after, { queues: ['events'], prefetch: 10 });
  await inbox.take(1);
  await expect.poll(async () => (await after.depths())[0]).toMatchObject({ ready: 0, unacked: 1 });
  await new Promise((done) => setTimeout(done, 500));
  expect(await Promise.all(marks.map((barrier) => after.hasPassed(barrier)))).toEqual([false, false]);
});
