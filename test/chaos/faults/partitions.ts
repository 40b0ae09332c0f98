import { cutFeedPartition } from '../../support/feedPartitions.ts';
import { between, type Fault } from '../fault.ts';

const CUTS = 3;

export const queuePartitions: Fault = {
  name: 'queue-partitions',
  title: 'the number of partitions of queues changes, and a worker is killed meanwhile',
  async run({ cluster, random, note }) {
    for (const partitions of [8, 2, 4]) {
      note(`feedctl migrate --partitions ${partitions}`);
      const worker = random.pick(cluster.workers);
      await Promise.all([
        cluster.json('migrate', '--partitions', String(partitions)),
        between(random, 100, 800).then(() => worker.kill()),
      ]);
      await worker.start();
      await between(random, 500, 1_500);
    }
  },
};

export const feedPartitions: Fault = {
  missing: ({ release }) => (release ? 'its feeds have other partitions' : undefined),
  name: 'feed-partitions',
  title: 'the newest partition of the feeds is divided, and a worker is killed meanwhile',
  async run({ cluster, random, note }) {
    for (let i = 0; i < CUTS; i += 1) {
      const worker = random.pick(cluster.workers);
      note('the newest partition of feeds is divided');
      await Promise.all([
        cutFeedPartition(cluster.db, `feed_items_chaos_${Date.now()}`),
        between(random, 0, 300).then(() => worker.kill()),
      ]);
      await worker.start();
      await between(random, 300, 1_000);
    }
  },
};
