import { LocalBus } from '../../../src/engine/bus/local/bus.ts';
import { RabbitBus } from '../../../src/engine/bus/rabbitmq/bus.ts';

/**
 * A process that takes messages and never answers, until it is killed. Says so on stdout: `taken <body>`.
 * Arguments: prefetch, URL of the bus, and of its database where that is another.
 */
const [prefetch, url, databaseUrl] = process.argv.slice(2);
const bus = databaseUrl ? new RabbitBus(url!, databaseUrl) : new LocalBus(url!);
await bus.consume({ queues: ['events'], prefetch: Number(prefetch) }, (deliveries) => {
  for (const delivery of deliveries) process.stdout.write(`taken ${delivery.body.toString()}\n`);
});
