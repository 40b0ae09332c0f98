import { management } from '../../support/rabbitmq.ts';
import { between, type Fault } from '../fault.ts';
import { brokerQueues, VHOST } from '../queues.ts';

/** Posts of these clients pass through them: none has very many followers. */
const FEED_QUEUES = /^feed\.(?!dead|cluster|.*bulk)/;

export const brokerKilled: Fault = {
  name: 'broker-killed',
  title: 'a node of the broker ends and starts again, and leaders of queues move',
  async run({ cluster, random, note }) {
    const broker = random.pick(cluster.brokers);
    const how = random.pick(['kill', 'stop'] as const);
    note(`${how} of a broker`);
    await broker.down(how);
    await between(random, 500, 3_000);
    await broker.up();
    if (cluster.brokers.length === 1) return;
    note('leaders of the queues are spread over the nodes again');
    await broker.evaluate(`rabbit_amqqueue:rebalance(quorum, <<".*">>, <<".*">>)`);
  },
};

export const brokerFrozen: Fault = {
  name: 'broker-frozen',
  title: 'a node of the broker accepts connections and does not answer',
  async run({ cluster, random, note }) {
    const broker = random.pick(cluster.brokers);
    note('a broker is frozen');
    await broker.freeze(true);
    try {
      await between(random, 2_000, 6_000);
    } finally {
      await broker.freeze(false);
    }
  },
};

export const brokerAlarm: Fault = {
  name: 'broker-alarm',
  title: 'the broker has an alarm of memory or disk and takes no messages',
  async run({ cluster, random, note }) {
    const alarm = random.pick(['memory', 'disk'] as const);
    note(`an alarm of ${alarm}`);
    const [begin, end] =
      alarm === 'memory'
        ? ['vm_memory_monitor:set_vm_memory_high_watermark(0.00001)', WATERMARK]
        : ['rabbit_disk_monitor:set_disk_free_limit("100TB")', DISK_LIMIT];
    try {
      for (const broker of cluster.brokers) await broker.evaluate(begin);
      await between(random, 1_500, 4_000);
    } finally {
      for (const broker of cluster.brokers) await broker.evaluate(end);
    }
  },
};
const WATERMARK = 'vm_memory_monitor:set_vm_memory_high_watermark(0.4)';
const DISK_LIMIT = 'rabbit_disk_monitor:set_disk_free_limit("50MB")';

export const queueFull: Fault = {
  name: 'queue-full',
  title: 'every queue is at its limit and refuses messages',
  async run({ cluster, random, note }) {
    const { managementUrl } = cluster.brokers[0]!;
    note('a policy limits every queue to one message');
    // The queues themselves say what happens to messages above the limit.
    await management(managementUrl, 'PUT', `policies/${VHOST}/full`, {
      pattern: '^feed\\.',
      definition: { 'max-length': 1 },
      'apply-to': 'queues',
    });
    try {
      await between(random, 1_500, 4_000);
    } finally {
      await management(managementUrl, 'DELETE', `policies/${VHOST}/full`);
    }
  },
};

export const queueDeleted: Fault = {
  name: 'queue-deleted',
  title: 'a queue is deleted at the broker, with the messages in it',
  async run({ cluster, random, note }) {
    const queue = random.pick(await brokerQueues(cluster, FEED_QUEUES));
    note(`the queue ${queue} is deleted`);
    const { managementUrl } = cluster.brokers[0]!;
    await management(managementUrl, 'DELETE', `queues/${VHOST}/${encodeURIComponent(queue)}`);
    await between(random, 500, 1_500);
  },
};

export const bindingDeleted: Fault = {
  name: 'binding-deleted',
  title: 'a binding is deleted at the broker',
  async run({ cluster, random, note }) {
    const { managementUrl } = cluster.brokers[0]!;
    const all = (await management(managementUrl, 'GET', `bindings/${VHOST}`)) as {
      source: string;
      destination: string;
      properties_key: string;
    }[];
    const binding = random.pick(
      all.filter(({ source, destination }) => source === 'feed.fanout' && !destination.includes('bulk')),
    );
    note(`the binding of ${binding.destination} to ${binding.source} is deleted`);
    const path = ['e', binding.source, 'q', binding.destination, binding.properties_key];
    await management(managementUrl, 'DELETE', `bindings/${VHOST}/${path.map(encodeURIComponent).join('/')}`);
    await between(random, 500, 1_500);
  },
};
