import type { RabbitBus } from '../bus/rabbitmq/bus.ts';
import type { Config } from '../config/config.ts';
import type { Database } from '../database/database.ts';

/**
 * Returns the other cluster that the virtual host of the configuration belongs to, or undefined. Changes
 * nothing. Throws the BROKER_ codes of a broker that does not answer.
 */
export const otherBrokerOwner = (
  config: Config,
  db: Database,
  cluster: string,
): Promise<string | undefined> => onBroker(config, db, (bus) => bus.otherOwner(cluster));

/**
 * Makes the virtual host of the configuration this cluster's. Its earlier owner is gone: messages of that
 * cluster are dropped. Messages of histories that the database does not know are taken as far as they are
 * still true. Returns the id of the earlier owner, or undefined without one. Does nothing without a broker.
 * Throws the BROKER_ codes of a broker that does not answer.
 */
export const adoptBroker = (config: Config, db: Database): Promise<string | undefined> =>
  onBroker(config, db, (bus) => bus.adopt());

async function onBroker<T>(
  { brokerUrl }: Config,
  db: Database,
  work: (bus: RabbitBus) => Promise<T>,
): Promise<T | undefined> {
  if (!brokerUrl) return undefined;
  const { RabbitBus } = await import('../bus/rabbitmq/bus.ts');
  const bus = new RabbitBus(brokerUrl, db.url);
  try {
    return await work(bus);
  } finally {
    await bus.close();
  }
}
