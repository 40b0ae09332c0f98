import { openLocalBus } from '../../../src/engine/bus/local/bus.ts';
import { openRabbitBus } from '../../../src/engine/bus/rabbitmq/bus.ts';
import { Database } from '../../../src/engine/store/database.ts';

/**
 * A process that takes messages and never answers, until it is killed. Says so on stdout: `taken <body>`.
 * Arguments: prefetch, URL of the bus, and of its database where that is another.
 */
const [prefetch, url, databaseUrl] = process.argv.slice(2);
const bus = databaseUrl ? await openRabbitBus(url!, new Database(databaseUrl)) : await openLocalBus(url!);
await bus.consume({ queues: ['events'], prefetch: Number(prefetch) }, (deliveries) => {
  for (const delivery of deliveries) process.stdout.write(`taken ${delivery.body.toString()}\n`);
});
