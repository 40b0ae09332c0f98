import type { Guard } from '../resilience/guard.ts';
import type { Bus } from './bus.ts';

/**
 * The same bus, whose publishing goes through a guard. A user's post waits for its event to be published: a broker
 * that is away or blocked holds up a few of them, and the sweeper publishes what all the others leave.
 */
export function guardedBus(bus: Bus, guard: Guard): Bus {
  const publishIn = bus.publishIn?.bind(bus);
  const health = bus.health?.bind(bus);
  const check = bus.check?.bind(bus);
  const reads = bus.reads?.bind(bus);
  const collectDeadLetters = bus.collectDeadLetters?.bind(bus);
  return {
    kind: bus.kind,
    ...(health && { health }),
    ...(check && { check }),
    ...(reads && { reads }),
    ...(collectDeadLetters && { collectDeadLetters }),
    publish: (messages) => guard.run(() => bus.publish(messages)),
    ...(publishIn && { publishIn }),
    consume: (options, onDeliveries) => bus.consume(options, onDeliveries),
    partitions: () => bus.partitions(),
    placeBarrier: (queues) => bus.placeBarrier(queues),
    hasPassed: (barrier) => bus.hasPassed(barrier),
    holds: (queues) => bus.holds(queues),
    depths: () => bus.depths(),
    throughput: () => bus.throughput(),
    peek: (queue, limit) => bus.peek(queue, limit),
    dropQueue: (queue) => bus.dropQueue(queue),
    async close() {
      guard.close();
      await bus.close();
    },
  };
}
