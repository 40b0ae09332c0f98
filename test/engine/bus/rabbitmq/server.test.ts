import { connect } from 'amqplib';
import { expect, test } from 'vitest';
import { freshVhost } from '../../../support/broker.ts';
import { findServer } from '../../../support/server.ts';

const server = await findServer('rabbitmq');

test.skipIf(!server)('the broker of the suites has what the driver needs', async () => {
  const { url } = await freshVhost(server!);
  const connection = await connect(url);
  try {
    const channel = await connection.createChannel();
    await channel.assertExchange('hash', 'x-consistent-hash', { durable: true });
    const queue = await channel.assertQueue('quorum', {
      durable: true,
      arguments: { 'x-queue-type': 'quorum' },
    });
    expect(queue).toMatchObject({ messageCount: 0 });
  } finally {
    await connection.close();
  }
});
