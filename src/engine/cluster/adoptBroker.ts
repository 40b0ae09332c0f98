import type { Config } from '../config/config.ts';
import type { Database } from '../database/database.ts';
import type { Identity } from '../identity/identity.ts';
import type { Log } from '../telemetry/log.ts';

/**
 * Returns the other cluster that the virtual host of the configuration belongs to, or undefined. Changes
 * nothing. Throws the BROKER_ codes of a broker that does not answer.
 */
export async function otherBrokerOwner(
  config: Config,
  db: Database,
  cluster: string,
): Promise<string | undefined> {
  if (!config.brokerUrl) return undefined;
  const { RabbitBus } = await import('../bus/rabbitmq/bus.ts');
  const bus = new RabbitBus(config.brokerUrl, db.url);
  try {
    return await bus.otherOwner(cluster);
  } finally {
    await bus.close();
  }
}

/**
 * Makes the virtual host of the configuration this cluster's. Its earlier owner is gone: messages of that
 * cluster are dropped. Messages of histories that the database does not know are taken as far as they are
 * still true. Returns the id of the earlier owner, or undefined without one. Does nothing without a broker.
 * Throws the BROKER_ codes of a broker that does not answer.
 */
export async function adoptBroker(
  config: Config,
  db: Database,
  { identity, log }: { identity?: Identity; log?: Log } = {},
): Promise<string | undefined> {
  if (!config.brokerUrl) return undefined;
  const { RabbitBus } = await import('../bus/rabbitmq/bus.ts');
  const bus = new RabbitBus(config.brokerUrl, db.url, { identity, ...(log && { log }) });
  try {
    return await bus.adopt();
  } finally {
    await bus.close();
  }
}
