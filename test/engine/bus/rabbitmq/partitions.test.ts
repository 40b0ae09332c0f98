import { describe, expect, onTestFinished, test } from 'vitest';
import { DURABLE_QUEUES, type Outgoing } from '../../../../src/engine/bus/bus.ts';
import { RabbitBus } from '../../../../src/engine/bus/rabbitmq/bus.ts';
import { assignedPartitions } from '../../../../src/engine/bus/rabbitmq/membership.ts';
import { partitionsOf } from '../../../../src/engine/bus/rabbitmq/queueNames.ts';
import { freshVhost } from '../../../support/broker.ts';
import { freshDatabase } from '../../../support/cluster.ts';
import { rejection } from '../../../support/codes.ts';
import { management } from '../../../support/rabbitmq.ts';
import { findServer } from '../../../support/server.ts';

const server = await findServer('rabbitmq');

async function openBuses(count: number, partitions: number) {
  const { url, managementUrl } = await freshVhost(server!);
  const { url: databaseUrl } = await freshDatabase();
  const buses = Array.from({ length: count }, () => {
    const bus = new RabbitBus(url, databaseUrl, { partitions });
    onTestFinished(() => bus.close());
    return bus;
  });
  const vhost = new URL(url).pathname.slice(1);
  const queues = async () =>
    ((await management(managementUrl, 'GET', `queues/${vhost}?columns=name`)) as { name: string }[])
      .map((queue) => queue.name)
      .filter((name) => /live\.\d+$/.test(name))
      .sort();
  return { buses, queues };
}

const batch = (round: number): Outgoing[] =>
  (['events', 'rows.live', 'rows.bulk'] as const).flatMap((queue) =>
    Array.from({ length: 8 }, (_, key) => ({ queue, key, body: Buffer.from(`${queue} ${round}.${key}`) })),
  );

describe.skipIf(!server)('partitions', () => {
  test('change while everything runs: nothing is lost, and those that are too many end up deleted', async () => {
    const { buses, queues } = await openBuses(3, 4);
    const [publisher, ...workers] = buses as [RabbitBus, ...RabbitBus[]];
    const seen = new Map<string, number>();
    let slow = true;
    for (const bus of workers) {
      for (const queue of ['events', 'rows.live', 'rows.bulk'] as const) {
        await bus.consume({ queues: [queue], prefetch: 8 }, (deliveries) => {
          for (const delivery of deliveries)
            setTimeout(
              () => {
                const text = delivery.body.toString();
                seen.set(text, (seen.get(text) ?? 0) + 1);
                delivery.ack();
              },
              slow ? 20 : 0,
            );
        });
      }
    }
    const published = new Set<string>();
    let going = true;
    const publishing = (async () => {
      for (let round = 0; going; round += 1) {
        const messages = batch(round);
        await publisher.publish(messages);
        for (const message of messages) published.add(message.body.toString());
      }
    })();
    const more = async () => {
      const before = published.size;
      await expect.poll(() => published.size).toBeGreaterThan(before + 300);
    };
    await more();
    await buses.at(-1)!.changePartitions(8);
    expect(await queues()).toHaveLength(8);
    await more();
    await buses.at(-1)!.changePartitions(2);
    await more();
    const barrier = await publisher.placeBarrier(['events', 'rows.live', 'rows.bulk']);
    slow = false;
    await expect.poll(() => publisher.hasPassed(barrier)).toBe(true);
    await expect.poll(queues).toEqual(['feed.rows.live.0', 'feed.rows.live.1']);
    await more();
    going = false;
    await publishing;
    const last = await publisher.placeBarrier(['events', 'rows.live', 'rows.bulk']);
    await expect.poll(() => publisher.hasPassed(last)).toBe(true);
    expect([...published].filter((text) => seen.get(text) !== 1)).toEqual([]);
    expect(await publisher.partitions()).toBe(2);
    // Members report messages in flight once a second.
    await expect.poll(() => publisher.depths()).toEqual([]);
  });

  test('are a power of two, and 32 at most', async () => {
    const [bus] = (await openBuses(1, 2)).buses;
    for (const count of [0, 3, 64, -2, 1.5])
      expect(await rejection(bus!.changePartitions(count))).toMatchObject({ code: 'CONFIG_INVALID' });
  });
});

test('are dealt out evenly, each to one member, to those who consume the queue', () => {
  const members = ['c', 'a', 'b'].map((id) => ({
    id,
    queues: id === 'b' ? ['events'] : [...DURABLE_QUEUES],
  }));
  for (const queue of DURABLE_QUEUES) {
    const dealt = members.map(({ id }) => assignedPartitions(id, queue, members, 8));
    expect(dealt.flat().sort()).toEqual(partitionsOf(queue, 8).sort());
    if (queue === 'events') expect(dealt.map((parts) => parts.length).sort()).toEqual([2, 3, 3]);
    else expect(dealt[2]).toEqual([]);
  }
});
