import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { Bus, ConsumeOptions, QueueName } from '../../../src/engine/bus/bus.ts';
import type { Database } from '../../../src/engine/database/database.ts';
import {
  discardDeadLetters,
  listDeadLetters,
  replayDeadLetters,
  showDeadLetter,
} from '../../../src/engine/queues/deadLetters.ts';
import { settableClock } from '../../support/clock.ts';
import { rejection } from '../../support/codes.ts';
import { openInbox } from './inbox.ts';

/** An empty broker for one test. */
export interface Broker {
  /** Arguments for taker.ts. */
  readonly taker: readonly string[];
  /** Database of the bus. */
  readonly db: Database;
  /** Opens another instance, as another process would. It is closed when the test ends. */
  open(options?: { maxMessages?: number }): Promise<Bus>;
}

const message = (text: string, queue: QueueName = 'events') => ({ queue, body: Buffer.from(text) });
const numbered = (count: number, queue: QueueName = 'events') =>
  Array.from({ length: count }, (_, i) => message(String(i), queue));
const text = (delivery: { body: Buffer }) => delivery.body.toString();
const one: ConsumeOptions = { queues: ['events'], prefetch: 1 };
const many: ConsumeOptions = { queues: ['events'], prefetch: 100 };

async function depth(bus: Bus, queue: QueueName = 'events') {
  const found = (await bus.depths()).find((row) => row.queue === queue);
  return { ready: found?.ready ?? 0, unacked: found?.unacked ?? 0, dead: found?.deadLetters ?? 0 };
}

/** Contract of every driver of the Bus port. */
export function busContract(name: string, openBroker: () => Promise<Broker>, skip = false): void {
  describe.skipIf(skip)(`the ${name} bus`, () => {
    describe('publishing', () => {
      test('hands every byte to a consumer, in order, and forgets what is acked', async () => {
        const bus = await (await openBroker()).open();
        const bodies = [
          Buffer.alloc(0),
          Buffer.from(Array.from({ length: 256 }, (_, i) => i)),
          Buffer.alloc(1e6, 7),
        ];
        await bus.publish(bodies.map((body) => ({ queue: 'events', body })));
        const inbox = await openInbox(bus, many);
        const deliveries = await inbox.take(3);
        expect(deliveries.map((delivery) => delivery.body.equals(bodies.shift()!))).toEqual([
          true,
          true,
          true,
        ]);
        for (const delivery of deliveries) {
          expect(delivery).toMatchObject({ queue: 'events', attempts: 0 });
          expect(await bus.holds(['rows.live', 'events'])).toBe(true);
          expect(await bus.holds(['events.bulk', 'rows.live', 'rows.bulk'])).toBe(false);
          delivery.ack();
        }
        await expect.poll(() => depth(bus)).toEqual({ ready: 0, unacked: 0, dead: 0 });
      });

      test('hands over what is beside a message too, at every try', async () => {
        const bus = await (await openBroker()).open();
        await bus.publish([message('none'), { ...message('some'), traces: '7=trace', delayMs: 1 }]);
        const inbox = await openInbox(bus, many);
        for (const delivery of await inbox.take(2)) {
          expect(delivery.traces).toBe(text(delivery) === 'some' ? '7=trace' : undefined);
          delivery.retry(0);
        }
        for (const delivery of await inbox.take(2)) {
          expect(delivery.traces).toBe(text(delivery) === 'some' ? '7=trace' : undefined);
          delivery.ack();
        }
      });

      test('takes thousands of messages, and none', async () => {
        const bus = await (await openBroker()).open();
        await bus.publish([]);
        await bus.publish(numbered(2_500));
        expect(await depth(bus)).toMatchObject({ ready: 2_500 });
        const inbox = await openInbox(bus, one);
        for (let i = 0; i < 20; i += 1) {
          const delivery = await inbox.next();
          expect(text(delivery)).toBe(String(i));
          delivery.ack();
        }
      });

      test('is durable: what was published is there after everyone has gone', async () => {
        const broker = await openBroker();
        const first = await broker.open();
        await first.publish(numbered(3));
        const held = await openInbox(first, one);
        await held.next();
        await first.close();
        const inbox = await openInbox(await broker.open(), many);
        expect((await inbox.take(3)).map(text).sort()).toEqual(['0', '1', '2']);
      });

      test('may be delayed', async () => {
        const bus = await (await openBroker()).open();
        const inbox = await openInbox(bus, many);
        await bus.publish([{ ...message('later'), delayMs: 500 }, message('now')]);
        expect((await inbox.take(2)).map(text)).toEqual(['now', 'later']);
      });

      test('waits no longer than its delay, whatever clock its publisher has', async () => {
        const bus = await (await openBroker()).open();
        const clock = settableClock();
        for (const aheadMs of [3_600_000, -3_600_000]) {
          clock.aheadMs = aheadMs;
          await bus.publish([{ ...message(`from ${aheadMs}`), delayMs: 500 }]);
        }
        clock.aheadMs = 0;
        const inbox = await openInbox(bus, many);
        expect((await inbox.take(2)).map(text).sort()).toEqual(['from -3600000', 'from 3600000']);
      });

      test('is taken again when there is room, although the clock was set back', async () => {
        const broker = await openBroker();
        const bus = await broker.open({ maxMessages: 10 });
        const clock = settableClock();
        await bus.publish(numbered(10));
        const publish = () =>
          bus.publish([message('over')]).then(
            () => 'taken',
            ({ code }) => code,
          );
        await expect.poll(publish).toBe('QUEUE_FULL');
        clock.aheadMs = -3_600_000;
        // Another process makes room: this one knows it only by looking again.
        await (await broker.open()).dropQueue('events');
        await expect.poll(publish).toBe('taken');
      });

      test('is refused at the bound, as a whole, and taken again when there is room', async () => {
        const broker = await openBroker();
        const bus = await broker.open({ maxMessages: 10 });
        await bus.publish(numbered(10));
        // Drivers read a queue's size only every second, so the limit is not exact.
        let refused: unknown;
        await expect
          .poll(async () => (refused = await bus.publish([message('over')]).catch((error) => error)))
          .toBeDefined();
        expect(refused).toMatchObject({ code: 'QUEUE_FULL' });
        const before = await depth(bus);
        const both = [message('elsewhere', 'cleanup'), message('over')];
        expect(await rejection(bus.publish(both))).toMatchObject({ code: 'QUEUE_FULL' });
        expect(await depth(bus)).toEqual(before);
        expect(await depth(bus, 'cleanup')).toMatchObject({ ready: 0 });
        await bus.publish([message('elsewhere', 'cleanup')]);
        await bus.dropQueue('events');
        await expect.poll(() => bus.publish([message('again')]).then(() => 'taken')).toBe('taken');
      });

      test('is refused after closing', async () => {
        const bus = await (await openBroker()).open();
        await bus.close();
        await expect(bus.publish([message('late')])).rejects.toThrow();
      });
    });

    describe('consuming', () => {
      test('never has more in hand than the prefetch', async () => {
        const bus = await (await openBroker()).open();
        await bus.publish(numbered(100));
        let inHand = 0;
        let most = 0;
        let done = 0;
        await bus.consume({ queues: ['events'], prefetch: 7 }, (deliveries) => {
          inHand += deliveries.length;
          most = Math.max(most, inHand);
          for (const delivery of deliveries)
            setImmediate(() => {
              inHand -= 1;
              done += 1;
              delivery.ack();
            });
        });
        await expect.poll(() => done).toBe(100);
        expect(most).toBe(7);
      });

      test('what one holds no other gets, and the rest is left to others', async () => {
        const broker = await openBroker();
        const bus = await broker.open();
        await bus.publish(numbered(5));
        const first = await openInbox(bus, { ...one, prefetch: 2 });
        const held = await first.take(2);
        expect(await depth(bus)).toEqual({ ready: 3, unacked: 2, dead: 0 });
        const other = await openInbox(await broker.open(), many);
        for (const delivery of held) delivery.ack();
        await first.stop(0);
        expect([...first.waiting, ...(await other.take(3 - first.waiting.length))].map(text)).toEqual([
          '2',
          '3',
          '4',
        ]);
      });

      test('two instances share the work, and nothing is handed out twice', async () => {
        const broker = await openBroker();
        const publisher = await broker.open();
        const seen: string[] = [];
        for (let i = 0; i < 2; i += 1) {
          await (await broker.open()).consume({ queues: ['events'], prefetch: 5 }, (deliveries) => {
            for (const delivery of deliveries) {
              seen.push(text(delivery));
              delivery.ack();
            }
          });
        }
        await publisher.publish(numbered(400));
        const barrier = await publisher.placeBarrier(['events']);
        await expect.poll(() => publisher.hasPassed(barrier)).toBe(true);
        expect(seen).toHaveLength(400);
        expect(new Set(seen).size).toBe(400);
      });

      test('serves earlier queues first', async () => {
        const bus = await (await openBroker()).open();
        await bus.publish([...numbered(100, 'rows.bulk'), ...numbered(3, 'rows.live')]);
        const inbox = await openInbox(bus, { queues: ['rows.live', 'rows.bulk'], prefetch: 1 });
        const order: string[] = [];
        for (let i = 0; i < 5; i += 1) {
          const delivery = await inbox.next();
          order.push(delivery.queue);
          delivery.ack();
        }
        expect(order).toEqual(['rows.live', 'rows.live', 'rows.live', 'rows.bulk', 'rows.bulk']);
        await bus.publish(numbered(1, 'rows.live'));
        // Messages that arrive are served first, long before the other queue is empty.
        for (let passed = 0; ; passed += 1) {
          const delivery = await inbox.next();
          delivery.ack();
          if (delivery.queue === 'rows.live') break;
          expect(passed).toBeLessThan(90);
        }
      });

      test('an idle consumer is woken, it does not poll', async () => {
        const broker = await openBroker();
        const bus = await broker.open();
        const inbox = await openInbox(bus, one);
        const publisher = await broker.open();
        const startedAt = Date.now();
        for (let i = 0; i < 10; i += 1) {
          await publisher.publish([message(String(i))]);
          (await inbox.next()).ack();
        }
        // Polling would take seconds for each of them.
        expect(Date.now() - startedAt).toBeLessThan(15_000);
      });
    });

    describe('a message that is not acked', () => {
      test('comes again with one more failed attempt, or with none where that does not count', async () => {
        const bus = await (await openBroker()).open();
        await bus.publish([message('a')]);
        const inbox = await openInbox(bus, one);
        (await inbox.next()).retry(0);
        const second = await inbox.next();
        expect(second.attempts).toBe(1);
        second.retry(0, { counts: false });
        const third = await inbox.next();
        expect(third.attempts).toBe(1);
        third.retry(0);
        expect(await inbox.next()).toMatchObject({ attempts: 2 });
      });

      test('waits for its delay while others pass', async () => {
        const bus = await (await openBroker()).open();
        await bus.publish([message('slow'), message('quick')]);
        const inbox = await openInbox(bus, one);
        (await inbox.next()).retry(500);
        const quick = await inbox.next();
        expect(text(quick)).toBe('quick');
        quick.ack();
        expect(text(await inbox.next())).toBe('slow');
      });

      test('may be given back any number of times where that does not count', async () => {
        const bus = await (await openBroker()).open();
        await bus.publish([message('patient')]);
        const inbox = await openInbox(bus, one);
        for (let i = 0; i < 150; i += 1) (await inbox.next()).retry(0, { counts: false });
        expect(await inbox.next()).toMatchObject({ attempts: 0 });
        expect(await depth(bus)).toMatchObject({ dead: 0 });
      });

      test('is put aside as a dead letter', async () => {
        const bus = await (await openBroker()).open();
        await bus.publish([message('bad'), message('good')]);
        const inbox = await openInbox(bus, one);
        (await inbox.next()).deadLetter('no such thing');
        expect(text(await inbox.next())).toBe('good');
        expect(await depth(bus)).toEqual({ ready: 0, unacked: 1, dead: 1 });
      });

      test('is settled once', async () => {
        const bus = await (await openBroker()).open();
        await bus.publish(numbered(3));
        const [a, b, c] = await (await openInbox(bus, many)).take(3);
        a!.ack();
        b!.retry(60_000);
        c!.deadLetter('bad');
        for (const delivery of [a!, b!, c!]) {
          expect(() => delivery.ack()).toThrow(/settled/);
          expect(() => delivery.retry(0)).toThrow(/settled/);
          expect(() => delivery.deadLetter('again')).toThrow(/settled/);
        }
        await expect.poll(() => depth(bus)).toEqual({ ready: 1, unacked: 0, dead: 1 });
      });

      test('goes back when its consumer stops, and is no failed attempt', async () => {
        const broker = await openBroker();
        const bus = await broker.open();
        await bus.publish(numbered(3));
        const inbox = await openInbox(bus, many);
        const [first] = await inbox.take(3);
        first!.ack();
        await inbox.stop(0);
        const back = await (await openInbox(await broker.open(), many)).take(2);
        expect(back.map((delivery) => [text(delivery), delivery.attempts])).toEqual([
          ['1', 0],
          ['2', 0],
        ]);
      });

      test('stays in the hands of a consumer when another of the same instance stops', async () => {
        const bus = await (await openBroker()).open();
        await bus.publish(numbered(4));
        const staying = await openInbox(bus, { ...one, prefetch: 2 });
        const [kept] = await staying.take(2);
        const leaving = await openInbox(bus, { ...one, prefetch: 2 });
        await leaving.stop(0);
        expect(await depth(bus)).toEqual({ ready: 2, unacked: 2, dead: 0 });
        kept!.ack();
        expect(text(await staying.next())).toBe('2');
      });

      test('is waited for when its consumer stops with time to spare', async () => {
        const bus = await (await openBroker()).open();
        await bus.publish(numbered(2));
        const inbox = await openInbox(bus, one);
        const held = await inbox.next();
        const stopped = inbox.stop(60_000);
        held.ack();
        await stopped;
        // A broker requeues the messages of a channel after it has confirmed the closing.
        await expect.poll(() => depth(bus)).toEqual({ ready: 1, unacked: 0, dead: 0 });
        expect(inbox.waiting).toEqual([]);
      });

      test('comes back when its consumer’s process is killed, long before a lease would end', async () => {
        const broker = await openBroker();
        const bus = await broker.open();
        await bus.publish(numbered(3));
        const file = fileURLToPath(new URL('taker.ts', import.meta.url));
        const taker = spawn(process.execPath, [file, '2', ...broker.taker], {
          stdio: ['ignore', 'pipe', 'inherit'],
        });
        onTestFinished(() => void taker.kill('SIGKILL'));
        const lines = createInterface({ input: taker.stdout })[Symbol.asyncIterator]();
        expect([(await lines.next()).value, (await lines.next()).value]).toEqual(['taken 0', 'taken 1']);
        const inbox = await openInbox(bus, many);
        taker.kill('SIGKILL');
        await once(taker, 'exit');
        const killedAt = Date.now();
        const back = await inbox.take(3);
        expect(back.map((delivery) => [text(delivery), delivery.attempts]).sort()).toEqual([
          ['0', 0],
          ['1', 0],
          ['2', 0],
        ]);
        expect(Date.now() - killedAt).toBeLessThan(20_000);
      });
    });

    describe('a mark', () => {
      test('is passed when all before it is acked or dead, whatever came after', async () => {
        const bus = await (await openBroker()).open();
        await bus.publish(numbered(3));
        const barrier = await bus.placeBarrier(['events', 'rows.bulk']);
        await bus.publish([message('after')]);
        const [a, b, c, after] = await (await openInbox(bus, many)).take(4);
        after!.ack();
        a!.ack();
        b!.deadLetter('bad');
        await expect.poll(() => depth(bus)).toEqual({ ready: 0, unacked: 1, dead: 1 });
        expect(await bus.hasPassed(barrier)).toBe(false);
        c!.ack();
        await expect.poll(() => bus.hasPassed(barrier)).toBe(true);
      });

      test('is not passed by a retry', async () => {
        const bus = await (await openBroker()).open();
        await bus.publish([message('a')]);
        const barrier = await bus.placeBarrier(['events']);
        const inbox = await openInbox(bus, one);
        (await inbox.next()).retry(0);
        const again = await inbox.next();
        expect(await bus.hasPassed(barrier)).toBe(false);
        again.ack();
        await expect.poll(() => bus.hasPassed(barrier)).toBe(true);
      });

      test('of empty queues is passed at once, and other queues do not matter', async () => {
        const bus = await (await openBroker()).open();
        await bus.publish([message('other', 'rows.bulk')]);
        expect(await bus.hasPassed(await bus.placeBarrier(['events']))).toBe(true);
        expect(await bus.hasPassed(await bus.placeBarrier(['events', 'rows.bulk']))).toBe(false);
      });
    });

    describe('a dead letter', () => {
      const signal = new AbortController().signal;
      const options = { signal, dryRun: false };

      /** Five dead-lettered events, and one message that waits. */
      async function withLetters() {
        const broker = await openBroker();
        const bus = await broker.open();
        const context = { db: broker.db, bus };
        await bus.publish([...numbered(6), message('other', 'cleanup')]);
        const inbox = await openInbox(bus, { queues: ['events', 'cleanup'], prefetch: 100 });
        for (const delivery of await inbox.take(7)) {
          if (text(delivery) === '5') delivery.ack();
          else delivery.deadLetter(`no ${delivery.queue} ${text(delivery)}`);
        }
        await expect.poll(async () => (await depth(bus)).dead).toBe(5);
        return { bus, context, inbox };
      }

      test('is listed with its reason, as often as one looks, and counted all the while', async () => {
        const { bus, context } = await withLetters();
        for (let i = 0; i < 3; i += 1) {
          const { total, letters } = await listDeadLetters(context, { queue: 'events' }, 3);
          expect(total).toBe(5);
          expect(new Set(letters.map((letter) => letter.reason)).size).toBe(3);
          for (const { reason } of letters) expect(reason).toMatch(/^no events [0-4]$/);
          expect(letters[0]).toMatchObject({ queue: 'events', bytes: 1, diedAt: expect.any(Date) });
        }
        expect(await depth(bus)).toEqual({ ready: 0, unacked: 0, dead: 5 });
        const { letters } = await listDeadLetters(context, { reason: 'CLEANUP' }, 10);
        expect(letters.map((letter) => letter.queue)).toEqual(['cleanup']);
        const shown = await showDeadLetter(context, letters[0]!.id);
        expect(shown.content).toMatchObject({
          kind: 'unreadable',
          hex: Buffer.from('other').toString('hex'),
        });
        expect(await rejection(showDeadLetter(context, 4e15))).toMatchObject({
          code: 'DEAD_LETTER_NOT_FOUND',
        });
      });

      test('is replayed once, by however many at a time', async () => {
        const { bus, context, inbox } = await withLetters();
        const filter = { queue: 'events' };
        const plan = await replayDeadLetters(context, filter, { ...options, dryRun: true });
        expect(plan).toMatchObject({ matched: 5, done: 0 });
        const runs = await Promise.all([1, 2, 3].map(() => replayDeadLetters(context, filter, options)));
        expect(runs.reduce((sum, run) => sum + run.done, 0)).toBe(5);
        const again = await inbox.take(5);
        expect(again.map(text).sort()).toEqual(['0', '1', '2', '3', '4']);
        expect(again.every((delivery) => delivery.attempts === 0)).toBe(true);
        for (const delivery of again) delivery.ack();
        await expect.poll(() => depth(bus)).toEqual({ ready: 0, unacked: 0, dead: 0 });
        expect(await replayDeadLetters(context, filter, options)).toMatchObject({ matched: 0, done: 0 });
        expect(await depth(bus, 'cleanup')).toMatchObject({ dead: 1 });
      });

      test('that dies again is a new one, and one that is discarded is gone', async () => {
        const { bus, context, inbox } = await withLetters();
        const [first] = (await listDeadLetters(context, { queue: 'events' }, 1)).letters;
        expect(await replayDeadLetters(context, { ids: [first!.id] }, options)).toMatchObject({ done: 1 });
        (await inbox.next()).deadLetter('again');
        await expect.poll(async () => (await depth(bus)).dead).toBe(5);
        const { letters } = await listDeadLetters(context, { queue: 'events' }, 10);
        expect(letters.map((letter) => letter.reason).sort()).toContain('again');
        expect(letters.map((letter) => letter.id)).not.toContain(first!.id);
        expect(await discardDeadLetters(context, {}, options)).toMatchObject({ matched: 6, done: 6 });
        expect(await bus.depths()).toEqual([]);
      });
    });

    describe('what waits', () => {
      test('is looked at without changing it, nor the marks in it', async () => {
        const bus = await (await openBroker()).open();
        expect(await bus.peek('events', 10)).toEqual([]);
        await bus.publish(numbered(6));
        const barrier = await bus.placeBarrier(['events']);
        await bus.publish([message('after')]);
        for (let i = 0; i < 3; i += 1) {
          const [first, ...rest] = await bus.peek('events', 3);
          expect(text(first!)).toBe('0');
          expect(rest.map(text)).toEqual(['1', '2']);
          expect(first!.publishedAt).toBeInstanceOf(Date);
        }
        expect(new Set((await bus.peek('events', 100)).map(text)).size).toBe(7);
        expect(await bus.hasPassed(barrier)).toBe(false);
        const inbox = await openInbox(bus, many);
        const deliveries = await inbox.take(7);
        expect(deliveries.map(text)).toEqual(['0', '1', '2', '3', '4', '5', 'after']);
        expect(deliveries.every((delivery) => delivery.attempts === 0)).toBe(true);
        for (const delivery of deliveries) delivery.ack();
        await expect.poll(() => bus.hasPassed(barrier)).toBe(true);
      });

      test('is looked at in every partition, and in no other queue', async () => {
        const bus = await (await openBroker()).open();
        await bus.publish(['a', 'b', 'c', 'd'].map((body, key) => ({ ...message(body, 'rows.live'), key })));
        await bus.publish(numbered(3, 'rows.bulk'));
        expect((await bus.peek('rows.live', 2)).length).toBe(2);
        expect((await bus.peek('rows.live', 100)).map(text).sort()).toEqual(['a', 'b', 'c', 'd']);
      });

      test('is looked at up to the limit, however unevenly the partitions are filled', async () => {
        const bus = await (await openBroker()).open();
        // One message in a partition, twelve in the other, with marks between them.
        await bus.publish([{ ...message('alone', 'rows.live'), key: 0 }]);
        const many = numbered(12, 'rows.live').map((one) => ({ ...one, key: 1 }));
        const barriers = [];
        for (const from of [0, 1, 2, 3]) {
          await bus.publish(many.slice(from * 3, from * 3 + 3));
          barriers.push(await bus.placeBarrier(['rows.live']));
        }
        expect((await bus.peek('rows.live', 20)).map(text).sort()).toEqual(
          ['alone', ...many.map(({ body }) => body.toString())].sort(),
        );
        for (const limit of [1, 5, 12, 13]) expect((await bus.peek('rows.live', limit)).length).toBe(limit);
        for (const barrier of barriers) expect(await bus.hasPassed(barrier)).toBe(false);
      });

      test('what a consumer holds is not shown as waiting', async () => {
        const broker = await openBroker();
        const bus = await broker.open();
        await bus.publish(numbered(5));
        const inbox = await openInbox(bus, { ...one, prefetch: 2 });
        const held = await inbox.take(2);
        const shown = await (await broker.open()).peek('events', 10).catch((error) => error);
        // A broker shows the messages of a queue to its one consumer only.
        if (Array.isArray(shown)) expect(shown.map(text)).toEqual(['2', '3', '4']);
        else expect(shown).toMatchObject({ code: 'QUEUE_CONSUMED' });
        for (const delivery of held) delivery.ack();
        for (const left of ['2', '3', '4']) {
          const delivery = await inbox.next();
          expect(text(delivery)).toBe(left);
          delivery.ack();
        }
      });
    });

    test('what has left a queue is counted: acked, or put aside', async () => {
      const broker = await openBroker();
      const bus = await broker.open();
      await bus.publish(numbered(20));
      const inbox = await openInbox(bus, many);
      const deliveries = await inbox.take(20);
      deliveries[0]!.deadLetter('bad');
      deliveries[1]!.retry(0);
      for (const delivery of deliveries.slice(2)) delivery.ack();
      (await inbox.next()).ack();
      const other = await broker.open();
      const count = async () =>
        (await other.throughput())
          .filter(({ queue }) => queue === 'events')
          .reduce((sum, one) => sum + one.count, 0);
      await expect.poll(count).toBe(20);
      expect((await other.throughput()).every(({ atMs }) => atMs > 1e12)).toBe(true);
    });

    test('a dropped queue is empty, and no other is', async () => {
      const bus = await (await openBroker()).open();
      await bus.publish([...numbered(3, 'events'), ...numbered(2, 'cleanup')]);
      await bus.dropQueue('events');
      expect(await depth(bus)).toEqual({ ready: 0, unacked: 0, dead: 0 });
      expect(await depth(bus, 'cleanup')).toMatchObject({ ready: 2 });
      await bus.publish(numbered(1, 'events'));
      expect(text(await (await openInbox(bus, one)).next())).toBe('0');
    });

    describe('the queue of a gateway', () => {
      test('is the gateway’s alone, and keeps what comes while nobody reads it for a moment', async () => {
        const broker = await openBroker();
        const bus = await broker.open();
        const a = await openInbox(bus, { queues: ['live.a'], prefetch: 10 });
        const b = await openInbox(bus, { queues: ['live.b'], prefetch: 10 });
        const publisher = await broker.open();
        await publisher.publish([message('to a', 'live.a'), message('to b', 'live.b')]);
        const both = [await a.next(), await b.next()];
        expect(both.map((delivery) => [delivery.queue, text(delivery)])).toEqual([
          ['live.a', 'to a'],
          ['live.b', 'to b'],
        ]);
        for (const delivery of both) delivery.ack();
        await a.stop(0);
        await publisher.publish([message('meanwhile', 'live.a')]);
        const again = await openInbox(bus, { queues: ['live.a'], prefetch: 10 });
        expect(text(await again.next())).toBe('meanwhile');
      });

      test('that is gone is no failure of whoever publishes to it', async () => {
        const bus = await (await openBroker()).open();
        await bus.publish([message('to nobody', 'live.never')]);
        const inbox = await openInbox(bus, { queues: ['live.a'], prefetch: 10 });
        await bus.publish([message('1', 'live.a')]);
        (await inbox.next()).ack();
        await inbox.stop(1_000);
        await bus.dropQueue('live.a');
        await bus.publish([message('2', 'live.a')]);
        await bus.dropQueue('live.a');
        expect(await depth(bus, 'live.a')).toEqual({ ready: 0, unacked: 0, dead: 0 });
      });
    });
  });
}
