import type { Guard } from '../resilience/guard.ts';
import type { Bus } from './bus.ts';

/**
 * Returns a bus that publishes through a guard. A user's request waits until its event is published:
 * a broker that is down or blocked delays a few requests only. The sweeper publishes the other events.
 */
export function guardedBus(bus: Bus, guard: Guard): Bus {
  const publishIn = bus.publishIn?.bind(bus);
  const health = bus.health?.bind(bus);
  const serverName = bus.serverName?.bind(bus);
  const refusal = bus.refusal?.bind(bus);
  const lineage = bus.lineage?.bind(bus);
  const check = bus.check?.bind(bus);
  const reads = bus.reads?.bind(bus);
  const records = bus.records?.bind(bus);
  const collectDeadLetters = bus.collectDeadLetters?.bind(bus);
  return {
    kind: bus.kind,
    ...(health && { health }),
    ...(serverName && { serverName }),
    ...(refusal && { refusal }),
    ...(lineage && { lineage }),
    ...(check && { check }),
    ...(reads && { reads }),
    ...(records && { records }),
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
