import { type ChannelModel, connect } from 'amqplib';
import { describe, expect, onTestFinished, test } from 'vitest';
import { RabbitBus } from '../../../../src/engine/bus/rabbitmq/bus.ts';
import { freshVhost } from '../../../support/broker.ts';
import { freshDatabase } from '../../../support/cluster.ts';
import { management } from '../../../support/rabbitmq.ts';
import { findServer } from '../../../support/server.ts';

const server = await findServer('rabbitmq');

async function openBroker() {
  const { url, managementUrl } = await freshVhost(server!);
  const { url: databaseUrl, db } = await freshDatabase();
  const bus = new RabbitBus(url, databaseUrl, { partitions: 2, managementUrl });
  onTestFinished(() => bus.close());
  const connection = await connect(url);
  onTestFinished(() => connection.close());
  const vhost = new URL(url).pathname.slice(1);
  const put = (path: string, body: unknown) =>
    management(managementUrl, 'PUT', path.replace('%', vhost), body);
  const post = (path: string, body: unknown) =>
    management(managementUrl, 'POST', path.replace('%', vhost), body);
  const remove = (path: string) => management(managementUrl, 'DELETE', path.replace('%', vhost));
  /** Returns the checks that found something. */
  const found = async () => (await bus.check()).filter(({ status }) => status !== 'ok');
  const { serverProperties } = connection.connection;
  const major = Number.parseInt(String(serverProperties.version), 10);
  return { bus, connection, db, vhost, major, put, post, remove, found };
}

/** Declares the queues of dead letters as versions before the delivery limit did. */
async function declareUnlimited(connection: ChannelModel): Promise<void> {
  const channel = await connection.createChannel();
  for (const queue of ['events', 'events.bulk', 'rows.live', 'rows.bulk', 'cleanup', 'live']) {
    await channel.assertQueue(`feed.dead.${queue}`, {
      durable: true,
      arguments: {
        'x-queue-type': 'quorum',
        'x-overflow': 'reject-publish',
        'x-max-length': 100_000,
        'x-max-length-bytes': 1024 ** 3,
      },
    });
  }
  await channel.close();
}

interface Row {
  readonly pattern: string;
  readonly definition: Record<string, unknown>;
  readonly to?: string;
  readonly operator?: true;
  /** Words of the check. undefined: the policy is harmless. */
  readonly says?: RegExp;
  readonly status?: 'warning';
}

/** Keys of policies of RabbitMQ 3.10, at every kind of queue and exchange. */
const POLICIES: Record<string, Row> = {
  'ttl of dead letters': {
    pattern: '^feed\\.dead\\.',
    definition: { 'message-ttl': 3_000 },
    says: /feed\.dead\.events/,
  },
  'ttl of one dead-letter queue': {
    pattern: 'dead\\.live$',
    definition: { 'message-ttl': 3_000 },
    says: /feed\.dead\.live\)/,
  },
  'ttl of the bulk lane': {
    pattern: 'bulk',
    definition: { 'message-ttl': 3_000 },
    says: /feed\.events\.bulk\.0/,
  },
  'ttl of gateways': {
    pattern: '^feed\\.live\\.',
    definition: { 'message-ttl': 3_000 },
    says: /feed\.live\.gateway/,
  },
  'ttl of another partition': {
    pattern: 'rows\\.live\\.1$',
    definition: { 'message-ttl': 3_000 },
    says: /feed\.rows\.live\.1\)/,
  },
  'ttl of an operator': {
    pattern: '^feed\\.cleanup',
    definition: { 'message-ttl': 3_000 },
    operator: true,
    says: /expires messages \(feed\.cleanup\)/,
  },
  'ttl of a pattern without case': {
    pattern: '(?i)^FEED\\.CLEANUP',
    definition: { 'message-ttl': 3_000 },
    says: /feed\.cleanup/,
  },
  'ttl of a pattern of Perl': {
    pattern: '^feed\\.cleanu(?>p)',
    definition: { 'message-ttl': 3_000 },
    says: /feed\.cleanup/,
  },
  'ttl of quorum queues': {
    pattern: '.*',
    to: 'all',
    definition: { 'message-ttl': 3_000 },
    says: /feed\.events\.0/,
  },
  'ttl of exchanges': { pattern: '.*', to: 'exchanges', definition: { 'message-ttl': 3_000 } },
  'ttl of others': { pattern: '^other', definition: { 'message-ttl': 3_000 } },
  'expiry of queues': { pattern: '^feed\\.rows', definition: { expires: 60_000 }, says: /deletes a queue/ },
  'early expiry of gateways': {
    pattern: '^feed\\.live',
    definition: { expires: 1_000 },
    says: /feed\.live\.gateway/,
  },
  'late expiry of gateways': { pattern: '^feed\\.live', definition: { expires: 600_000 } },
  'a low limit of messages': {
    pattern: '^feed\\.dead',
    definition: { 'max-length': 10 },
    says: /max-length=10 limits/,
  },
  'a high limit of messages': { pattern: '^feed', definition: { 'max-length': 100_000_000 } },
  'a low limit of bytes': {
    pattern: '^feed',
    definition: { 'max-length-bytes': 10 },
    operator: true,
    says: /max-length-bytes=10 limits/,
  },
  'drop-head': {
    pattern: '^feed',
    definition: { overflow: 'drop-head' },
    says: /drops messages of a full queue/,
  },
  'reject-publish': { pattern: '^feed', definition: { overflow: 'reject-publish' } },
  'another dead-letter exchange': {
    pattern: '^feed\\.dead',
    definition: { 'dead-letter-exchange': 'x' },
    says: /diverts/,
  },
  'another dead-letter key': {
    pattern: '^feed\\.live',
    definition: { 'dead-letter-routing-key': 'x' },
    says: /diverts/,
  },
  'a dead-letter exchange that the argument hides': {
    pattern: '^feed\\.(events|rows|cleanup)',
    definition: { 'dead-letter-exchange': 'x' },
  },
  'a low delivery limit': {
    pattern: '^feed\\.rows\\.bulk',
    definition: { 'delivery-limit': 3 },
    says: /after a few crashes/,
  },
  'a low delivery limit of dead letters': {
    pattern: '^feed\\.dead',
    definition: { 'delivery-limit': 200 },
    operator: true,
    says: /returned too often/,
  },
  'a high delivery limit': { pattern: '^feed\\.', definition: { 'delivery-limit': 1_000_000 } },
  'an alternate exchange': {
    pattern: '^feed\\.live$',
    to: 'exchanges',
    definition: { 'alternate-exchange': 'x' },
    says: /\(feed\.live\)/,
  },
  'leaders of queues': { pattern: '^feed', definition: { 'queue-leader-locator': 'balanced' } },
};

describe.skipIf(!server)('doctor on RabbitMQ', () => {
  test('knows every policy that drops, limits, expires or diverts messages', async () => {
    const { bus, vhost, put, remove, found } = await openBroker();
    await bus.declare();
    expect(await found()).toEqual([]);
    for (const [name, row] of Object.entries(POLICIES)) {
      const { pattern, definition, to = 'queues', operator, says } = row;
      const path = `${operator ? 'operator-policies' : 'policies'}/%/careless`;
      await put(path, { pattern, definition, 'apply-to': to });
      const expected = says && {
        name: 'broker policies',
        status: 'fault',
        detail: expect.stringMatching(says),
        fix: expect.stringContaining(`clear_${operator ? 'operator_' : ''}policy -p ${vhost} careless`),
      };
      // A pattern that only the broker can read is compared with what it has applied, a moment later.
      await expect.poll(found, { message: name }).toEqual(expected ? [expected] : []);
      await remove(path);
    }
    expect(await found()).toEqual([]);
  });

  test('looks only at the policy of the highest priority, as the broker does', async () => {
    const { bus, put, found } = await openBroker();
    await bus.declare();
    const ttl = { pattern: '.*', definition: { 'message-ttl': 1 }, 'apply-to': 'queues', priority: 1 };
    await put('policies/%/everything', ttl);
    expect(await found()).toMatchObject([{ name: 'broker policies', status: 'fault' }]);
    await put('policies/%/feeds', {
      pattern: '^feed\\.',
      definition: { 'max-length': 200_000 },
      'apply-to': 'queues',
      priority: 2,
    });
    expect(await found()).toEqual([]);
  });

  test('finds queues, exchanges and bindings that another program has declared', async () => {
    const { bus, put, post, found } = await openBroker();
    await put('exchanges/%/feed.events.bulk', {
      type: 'x-consistent-hash',
      durable: true,
      arguments: { 'hash-header': 'author' },
    });
    await bus.declare();
    await put('queues/%/feed.live.old', { durable: true, arguments: { 'x-message-ttl': 1_000 } });
    await put('queues/%/copy', { durable: true });
    await post('bindings/%/e/feed.events/q/copy', { routing_key: '1' });
    expect(await found()).toEqual([
      expect.objectContaining({
        name: 'broker arguments',
        status: 'fault',
        detail: expect.stringMatching(
          /x-message-ttl=1000 .*feed\.live\.old.*hash-header=author.*feed\.events\.bulk/,
        ),
      }),
      expect.objectContaining({
        name: 'broker bindings',
        status: 'fault',
        detail: 'feed.events sends to copy',
      }),
    ]);
  });
});

describe.skipIf(!server)('dead letters at the broker', () => {
  /** Hands a message out until the broker dead-letters it. Its count of deliveries is then 101. */
  async function dieOf(bus: RabbitBus, connection: ChannelModel): Promise<void> {
    await bus.publish([{ queue: 'cleanup', body: Buffer.from('deadly') }]);
    const channel = await connection.createChannel();
    await channel.prefetch(1);
    await channel.consume('feed.cleanup', (message) => {
      if (message) channel.reject(message, true);
    });
    await expect.poll(() => ready(connection, 'feed.dead.cleanup')).toBe(1);
    await channel.close();
  }

  async function ready(connection: ChannelModel, name: string): Promise<number> {
    const channel = await connection.createChannel();
    const { messageCount } = await channel.checkQueue(name);
    await channel.close();
    return messageCount;
  }

  test.for([
    ['new queues', false],
    ['queues of an older version, with the policy that doctor names', true],
  ] as const)('stay there while they cannot be stored: %s', async ([, older]) => {
    const { bus, connection, db, put, found, major } = await openBroker();
    if (older) await declareUnlimited(connection);
    await bus.declare();
    if (older) {
      const [check, ...others] = await found();
      expect(others).toEqual([]);
      expect(check).toMatchObject({ name: 'broker dead letters', status: major >= 4 ? 'fault' : 'warning' });
      const [, priority, name, pattern, definition] =
        /set_policy -p \S+ --priority (\d+) --apply-to queues (\S+) '([^']+)' '([^']+)'/.exec(check!.fix!)!;
      await put(`policies/%/${name}`, {
        pattern,
        definition: JSON.parse(definition!),
        priority: Number(priority),
        'apply-to': 'queues',
      });
    }
    await expect.poll(found).toEqual([]);
    await dieOf(bus, connection);
    await db.query('alter table bus.dead_letters rename to dead_letters_away');
    for (let attempt = 0; attempt < 25; attempt += 1) {
      await expect(bus.collectDeadLetters()).rejects.toThrow('dead_letters');
      // A process that is killed with the letter in its hands.
      const channel = await connection.createChannel();
      await expect.poll(() => channel.get('feed.dead.cleanup')).toBeTruthy();
      await channel.close();
      await expect.poll(() => ready(connection, 'feed.dead.cleanup')).toBe(1);
    }
    await db.query('alter table bus.dead_letters_away rename to dead_letters');
    await bus.collectDeadLetters();
    expect(await bus.depths()).toMatchObject([{ queue: 'cleanup', ready: 0, deadLetters: 1 }]);
  });

  test('of an older version: the policy that doctor names keeps what another one sets', async () => {
    const { bus, connection, put, found } = await openBroker();
    await declareUnlimited(connection);
    await put('policies/%/placement', {
      pattern: '^feed',
      definition: { 'queue-leader-locator': 'balanced' },
      priority: 7,
      'apply-to': 'queues',
    });
    await bus.declare();
    expect(await found()).toMatchObject([
      {
        name: 'broker dead letters',
        fix: expect.stringMatching(
          /--priority 8 .*'\{"queue-leader-locator":"balanced","delivery-limit":1000000\}'/,
        ),
      },
    ]);
  });
});
