import { openLocalBus } from '../../../src/engine/bus/local/bus.ts';

/** A process that takes messages and never answers, until it is killed. Says so on stdout: `taken <body>`. */
const [url, prefetch] = process.argv.slice(2);
const bus = await openLocalBus(url!);
await bus.consume({ queues: ['events'], prefetch: Number(prefetch) }, (deliveries) => {
  for (const delivery of deliveries) process.stdout.write(`taken ${delivery.body.toString()}\n`);
});
