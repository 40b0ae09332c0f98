import { setTimeout as sleep } from 'node:timers/promises';
import type { Channel } from 'amqplib';
import { withoutPassword } from '../../database/url.ts';
import type { Check } from '../../model/check.ts';
import { messageOf } from '../../model/errors.ts';
import { DURABLE_QUEUES } from '../bus.ts';
import { connectTo } from './connect.ts';
import { checkVersion } from './connection.ts';
import type { Endpoint } from './endpoints.ts';
import { brokerError } from './errors.ts';
import { DEAD_LETTERS, declareTopology, EXCHANGES, partitionsOf, type QueueLimits } from './queueNames.ts';

const PROBE = 'feed.probe';
const MANAGEMENT_MS = 3_000;
const ALARM_MS = 3_000;
/** Keys of policies that would expire or drop messages, or refuse them below the limit. */
const HARMFUL = ['message-ttl', 'expires', 'overflow', 'max-length', 'max-length-bytes'];

const fault = (error: unknown, endpoint: Endpoint): Check => {
  const { code, message, suggestions } = brokerError(error, endpoint);
  return { name: code, status: 'fault', detail: message, ...(suggestions[0] && { fix: suggestions[0] }) };
};

/** Checks every broker, and the cluster's queues at the first one that is reachable. Changes nothing. */
export async function checkBroker(
  endpoints: readonly Endpoint[],
  topology: { partitions: number; limits: QueueLimits },
  managementUrl: string | undefined,
): Promise<Check[]> {
  const checks: Check[] = [];
  let reached: Endpoint | undefined;
  for (const endpoint of endpoints) {
    try {
      const version = await onBroker(endpoint, async (_, found) => found);
      checkVersion(version, endpoint);
      checks.push({ name: 'broker', status: 'ok', detail: `RabbitMQ ${version}, ${endpoint.shown}` });
      reached ??= endpoint;
    } catch (error) {
      checks.push(fault(error, endpoint));
    }
  }
  if (!reached) return checks;
  // The cluster works with the brokers that are reachable.
  for (const [i, one] of checks.entries())
    if (one.status === 'fault') checks[i] = { ...one, status: 'warning' };
  checks.push(await checkPlugin(reached), await checkQueues(reached, topology), await checkAlarms(reached));
  checks.push(...(await checkManagement(reached, managementUrl)));
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

async function checkQueues(
  endpoint: Endpoint,
  { partitions, limits }: { partitions: number; limits: QueueLimits },
): Promise<Check> {
  const queues = [...DURABLE_QUEUES.flatMap((queue) => partitionsOf(queue, partitions)), ...DEAD_LETTERS];
  try {
    await onBroker(endpoint, async (channel) => {
      for (const exchange of Object.values(EXCHANGES)) await channel.checkExchange(exchange);
      for (const queue of queues) await channel.checkQueue(queue);
      // Nothing is missing, so nothing is created: declaring only compares the properties.
      await declareTopology(channel, partitions, limits);
    });
    const detail = `${queues.length} as declared, ${partitions} partitions`;
    return { name: 'broker queues', status: 'ok', detail };
  } catch (error) {
    if (!/NOT_FOUND/.test(messageOf(error))) return fault(error, endpoint);
    const what = /NOT_FOUND - no (\w+ '[^']*')/.exec(messageOf(error))?.[1] ?? messageOf(error);
    return {
      name: 'broker queues',
      status: 'warning',
      detail: `the broker lacks ${what}`,
      fix: 'Run `feedctl migrate`; a starting worker creates them too.',
    };
  }
}

/** Publishes a message that no queue takes: a broker with an alarm blocks a connection that publishes. */
async function checkAlarms(endpoint: Endpoint): Promise<Check> {
  const connection = await connectTo(endpoint);
  connection.on('error', () => {});
  try {
    const blocked = new Promise<string>((done) => connection.once('blocked', done));
    const channel = await connection.createConfirmChannel();
    channel.on('error', () => {});
    const confirmed = new Promise<void>((done) =>
      channel.publish('', PROBE, Buffer.alloc(0), {}, () => done()),
    );
    const reason = await Promise.race([
      blocked,
      confirmed,
      sleep(ALARM_MS, 'it does not confirm them', { ref: false }),
    ]);
    return reason === undefined
      ? { name: 'broker alarms', status: 'ok', detail: 'none: it takes messages' }
      : {
          name: 'broker alarms',
          status: 'fault',
          detail: `the broker takes no messages: ${reason}`,
          fix: 'See `rabbitmq-diagnostics alarms`; make room, or start workers.',
        };
  } catch (error) {
    return fault(error, endpoint);
  } finally {
    await connection.close().catch(() => {});
  }
}

interface Policy {
  readonly name: string;
  readonly pattern: string;
  readonly 'apply-to': string;
  readonly definition: Record<string, unknown>;
}

/** Checks policies, which only the management API shows. It may be disabled. */
async function checkManagement(endpoint: Endpoint, given: string | undefined): Promise<Check[]> {
  const { protocol, hostname, username, password } = endpoint.connect;
  const base = new URL(
    given ?? (protocol === 'amqps' ? `https://${hostname}:15671` : `http://${hostname}:15672`),
  );
  const user = decodeURIComponent(base.username) || username;
  const secret = base.username ? decodeURIComponent(base.password) : password;
  const ask = (path: string) =>
    fetch(`${base.origin}/api/${path}`, {
      headers: { authorization: `Basic ${Buffer.from(`${user}:${secret}`).toString('base64')}` },
      signal: AbortSignal.timeout(MANAGEMENT_MS),
    });
  try {
    const policies: Policy[] = [];
    for (const kind of ['policies', 'operator-policies']) {
      const answer = await ask(`${kind}/${encodeURIComponent(endpoint.vhost)}`);
      if (!answer.ok) throw new Error(`it answers ${answer.status}`);
      policies.push(...((await answer.json()) as Policy[]));
    }
    const harmful = policies.filter(
      (policy) =>
        policy['apply-to'] !== 'exchanges' &&
        HARMFUL.some((key) => key in policy.definition) &&
        ['feed.events.0', 'feed.rows.live.0', 'feed.cleanup'].some((queue) =>
          new RegExp(policy.pattern).test(queue),
        ),
    );
    if (harmful.length === 0)
      return [{ name: 'broker policies', status: 'ok', detail: 'none that drops messages' }];
    const names = harmful.map((policy) => policy.name).join(', ');
    return [
      {
        name: 'broker policies',
        status: 'fault',
        detail: `${names} would drop or refuse messages of the cluster`,
        fix: 'Narrow the pattern of that policy, or clear it.',
      },
    ];
  } catch (error) {
    return [
      {
        name: 'broker management',
        status: 'ok',
        detail: `policies not checked: ${withoutPassword(base.origin)}: ${messageOf(error)}`,
      },
    ];
  }
}
