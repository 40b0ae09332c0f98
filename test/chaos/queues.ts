import { management } from '../support/rabbitmq.ts';
import type { ChaosCluster } from './cluster.ts';

export const VHOST = '%2F';

/** Returns the names of the durable queues that match. */
export async function brokerQueues({ brokers }: ChaosCluster, pattern: RegExp): Promise<string[]> {
  const queues = (await management(brokers[0]!.managementUrl, 'GET', `queues/${VHOST}`)) as {
    name: string;
    durable: boolean;
  }[];
  return queues.filter(({ name, durable }) => durable && pattern.test(name)).map(({ name }) => name);
}
