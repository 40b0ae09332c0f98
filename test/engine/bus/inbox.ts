import type { Bus, ConsumeOptions, Consumer, Delivery } from '../../../src/engine/bus/bus.ts';

/** A consumer whose deliveries a test takes one by one. */
export interface Inbox extends Consumer {
  /** Deliveries that `next` has not returned yet. */
  readonly waiting: Delivery[];
  next(): Promise<Delivery>;
  take(count: number): Promise<Delivery[]>;
}

export async function openInbox(bus: Bus, options: ConsumeOptions): Promise<Inbox> {
  const waiting: Delivery[] = [];
  const readers: ((delivery: Delivery) => void)[] = [];
  const consumer = await bus.consume(options, (deliveries) => {
    for (const delivery of deliveries) {
      const reader = readers.shift();
      if (reader) reader(delivery);
      else waiting.push(delivery);
    }
  });
  const next = () =>
    new Promise<Delivery>((resolve) => {
      const delivery = waiting.shift();
      if (delivery) resolve(delivery);
      else readers.push(resolve);
    });
  return {
    waiting,
    next,
    take: (count) => Promise.all(Array.from({ length: count }, next)),
    stop: (deadlineMs) => consumer.stop(deadlineMs),
  };
}
