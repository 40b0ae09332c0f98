import type { Channel } from 'amqplib';
import type { Check } from '../../model/check.ts';
import { messageOf } from '../../model/errors.ts';
import { DURABLE_QUEUES } from '../bus.ts';
import { connectTo } from './connect.ts';
import { checkVersion } from './connection.ts';
import type { Endpoint } from './endpoints.ts';
import { brokerError } from './errors.ts';
import { readManagement } from './management.ts';
import { onNewChannels, otherCluster, readOwner } from './owner.ts';
import { checkDeadLetterLimits, checkPolicies } from './policies.ts';
import { PROBE, Trials } from './probe.ts';
import { DEAD_LETTERS, declareTopology, EXCHANGES, partitionsOf, type QueueLimits } from './queueNames.ts';

const fault = (error: unknown, endpoint: Endpoint): Check => {
  const { code, message, suggestions } = brokerError(error, endpoint);
  return { name: code, status: 'fault', detail: message, ...(suggestions[0] && { fix: suggestions[0] }) };
};

interface Situation {
  readonly partitions: number;
  readonly limits: QueueLimits;
  readonly cluster: string;
  /** The database of this cluster knows that the cluster has used a broker. */
  readonly usedBefore: boolean;
}

/** Checks every broker, and the cluster's queues at the first one that is reachable. Changes nothing. */
export async function checkBroker(
  endpoints: readonly Endpoint[],
  { cluster, usedBefore, ...topology }: Situation,
  managementUrl: string | undefined,
): Promise<Check[]> {
  const checks: Check[] = [];
  let reached: Endpoint | undefined;
  let major = 0;
  for (const endpoint of endpoints) {
    try {
      const version = await onBroker(endpoint, async (_, found) => found);
      checkVersion(version, endpoint);
      checks.push({ name: 'broker', status: 'ok', detail: `RabbitMQ ${version}, ${endpoint.shown}` });
      if (!reached) major = Number.parseInt(version, 10);
      reached ??= endpoint;
    } catch (error) {
      checks.push(fault(error, endpoint));
    }
  }
  if (!reached) return checks;
  // The cluster works with the brokers that are reachable.
  for (const [i, one] of checks.entries())
    if (one.status === 'fault') checks[i] = { ...one, status: 'warning' };
  const owner = await checkOwner(reached, { cluster, usedBefore });
  checks.push(owner);
  // The queues of another cluster are not looked at.
  if (owner.status === 'fault') return checks;
  const queues = await checkQueues(reached, topology);
  const exchange = queues.check.status === 'ok' ? EXCHANGES.live : '';
  checks.push(await checkPlugin(reached), queues.check, await checkPublishing(reached, exchange));
  const management = await readManagement(reached, managementUrl);
  const situation = { ...topology, major, vhost: reached.vhost };
  if (typeof management === 'string') {
    checks.push({ name: 'broker management', status: 'ok', detail: management });
    checks.push(...checkDeadLetterLimits(queues.unlimited, undefined, situation));
  } else {
    checks.push(...checkPolicies(management, situation));
    checks.push(...checkDeadLetterLimits(queues.unlimited, management, situation));
  }
  return checks;
}

/** Runs `work` on a new connection: the broker closes the channel or connection of a refused query. */
async function onBroker<T>(
  endpoint: Endpoint,
  work: (channel: Channel, version: string) => Promise<T>,
): Promise<T> {
  const connection = await connectTo(endpoint);
  let refused: unknown;
  connection.on('error', (error) => {
    refused = error;
  });
  try {
    const channel = await connection.createChannel();
    channel.on('error', (error) => {
      refused ??= error;
    });
    return await work(channel, String(connection.connection.serverProperties.version));
  } catch (error) {
    await new Promise((done) => setImmediate(done));
    throw refused ?? error;
  } finally {
    await connection.close().catch(() => {});
  }
}

/** Compares the mark of the virtual host. Writes none. */
async function checkOwner(
  endpoint: Endpoint,
  { cluster, usedBefore }: { cluster: string; usedBefore: boolean },
): Promise<Check> {
  const name = 'broker owner';
  try {
    const connection = await connectTo(endpoint);
    connection.on('error', () => {});
    const owner = await readOwner(onNewChannels(connection), cluster).finally(() =>
      connection.close().catch(() => {}),
    );
    if (owner === 'own') return { name, status: 'ok', detail: `this cluster, ${cluster}` };
    if (owner === 'none' || (owner === 'unmarked' && usedBefore))
      return { name, status: 'ok', detail: 'no cluster yet: the first worker marks the virtual host' };
    return fault(otherCluster(endpoint, owner, cluster), endpoint);
  } catch (error) {
    return fault(error, endpoint);
  }
}

async function checkPlugin(endpoint: Endpoint): Promise<Check> {
  try {
    await onBroker(endpoint, async (channel) => {
      await channel.assertExchange(PROBE, 'x-consistent-hash', { durable: false, autoDelete: true });
      await channel.deleteExchange(PROBE);
    });
    return { name: 'broker plugin', status: 'ok', detail: 'rabbitmq_consistent_hash_exchange is enabled' };
  } catch (error) {
    return fault(error, endpoint);
  }
}

/** `unlimited`: the queues of dead letters without a delivery limit. */
async function checkQueues(
  endpoint: Endpoint,
  { partitions, limits }: { partitions: number; limits: QueueLimits },
): Promise<{ check: Check; unlimited: readonly string[] }> {
  const queues = [...DURABLE_QUEUES.flatMap((queue) => partitionsOf(queue, partitions)), ...DEAD_LETTERS];
  try {
    await onBroker(endpoint, async (channel) => {
      for (const exchange of Object.values(EXCHANGES)) await channel.checkExchange(exchange);
      for (const queue of queues) await channel.checkQueue(queue);
    });
    // Nothing is missing, so nothing is created: declaring only compares the properties.
    const unlimited = await declareTopology((work) => onBroker(endpoint, work), partitions, limits);
    const detail = `${queues.length} as declared, ${partitions} partitions`;
    return { check: { name: 'broker queues', status: 'ok', detail }, unlimited };
  } catch (error) {
    if (!/NOT_FOUND/.test(messageOf(error))) return { check: fault(error, endpoint), unlimited: [] };
    const what = /NOT_FOUND - no (\w+ '[^']*')/.exec(messageOf(error))?.[1] ?? messageOf(error);
    const check: Check = {
      name: 'broker queues',
      status: 'warning',
      detail: `the broker lacks ${what}`,
      fix: 'Run `feedctl migrate`; a starting worker creates them too.',
    };
    return { check, unlimited: [] };
  }
}

/** Publishes a message and receives it, as roles do. An alarm blocks a connection that publishes. */
async function checkPublishing(endpoint: Endpoint, exchange: string): Promise<Check> {
  const name = 'broker alarms';
  const connection = await connectTo(endpoint);
  connection.on('error', () => {});
  try {
    await new Trials(connection, endpoint, exchange).run();
    return { name, status: 'ok', detail: 'none: a message was confirmed and received' };
  } catch (error) {
    const found = fault(error, endpoint);
    if (found.name !== 'BROKER_BLOCKED') return found;
    const fix = 'See `rabbitmq-diagnostics alarms`; make room, or start workers.';
    return { ...found, name, fix };
  } finally {
    await connection.close().catch(() => {});
  }
}
