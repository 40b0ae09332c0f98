import { onTestFinished } from 'vitest';
import { RabbitBus } from '../../../../src/engine/bus/rabbitmq/bus.ts';
import { freshVhost } from '../../../support/broker.ts';
import { freshDatabase } from '../../../support/cluster.ts';
import { findServer } from '../../../support/server.ts';
import { busContract } from '../contract.ts';

const server = await findServer('rabbitmq');

busContract(
  'RabbitMQ',
  async () => {
    const { url } = await freshVhost(server!);
    const { url: databaseUrl, db } = await freshDatabase();
    return {
      taker: [url, databaseUrl],
      db,
      async open(options) {
        const bus = new RabbitBus(url, databaseUrl, { partitions: 2, ...options });
        onTestFinished(() => bus.close());
        return bus;
      },
    };
  },
  !server,
);
