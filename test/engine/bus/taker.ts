import { LocalBus } from '../../../src/engine/bus/local/bus.ts';
import { RabbitBus } from '../../../src/engine/bus/rabbitmq/bus.ts';

/**
 * Process that takes messages and never settles them, until it is killed. Prints `taken <body>`.
 * Arguments: prefetch, URL of the bus, and URL of its database if that is another one.
 */
const [prefetch, url, databaseUrl] = process.argv.slice(2);
const bus = databaseUrl ? new RabbitBus(url!, databaseUrl) : new LocalBus(url!);
await bus.consume({ queues: ['events'], prefetch: Number(prefetch) }, (deliveries) => {
  for (const delivery of deliveries) process.stdout.write(`taken ${delivery.body.toString()}\n`);
});
