import { redisCommand } from '../../support/redis.ts';
import { between, type Fault } from '../fault.ts';

export const redisFlushed: Fault = {
  name: 'redis-flushed',
  title: 'Redis loses all keys while it is used',
  async run({ cluster, random, note }) {
    for (let i = 0; i < 3; i += 1) {
      note('FLUSHALL');
      await redisCommand((await cluster.redis()).url, 'FLUSHALL');
      await between(random, 200, 800);
    }
  },
};

export const redisStopped: Fault = {
  name: 'redis-stopped',
  title: 'Redis ends and starts again without its data',
  async run({ cluster, random, note }) {
    const server = await cluster.redis();
    const how = random.pick(['kill', 'stop'] as const);
    note(`${how} of Redis`);
    await server.down(how);
    await between(random, 500, 4_000);
    await server.up();
  },
};

export const redisFrozen: Fault = {
  name: 'redis-frozen',
  title: 'Redis accepts connections and does not answer',
  async run({ cluster, random, note }) {
    const server = await cluster.redis();
    note('Redis is frozen');
    server.freeze(true);
    try {
      await between(random, 1_000, 5_000);
    } finally {
      server.freeze(false);
    }
  },
};

export const redisFull: Fault = {
  name: 'redis-full',
  title: 'Redis has no memory left and refuses writes',
  async run({ cluster, random, note }) {
    const { url } = await cluster.redis();
    note('maxmemory is 1 MB');
    await redisCommand(url, 'CONFIG', 'SET', 'maxmemory', '1mb');
    try {
      await between(random, 1_500, 4_000);
    } finally {
      await redisCommand(url, 'CONFIG', 'SET', 'maxmemory', '0');
    }
  },
};

export const redisFailedOver: Fault = {
  missing: ({ sentinels }) => (sentinels ? undefined : 'this Redis has no replica'),
  name: 'redis-failed-over',
  title: 'the sentinels promote the replica of Redis',
  async run({ cluster, note }) {
    note('SENTINEL FAILOVER');
    await cluster.sentinels!.failOver();
  },
};
