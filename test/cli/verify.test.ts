import { Redis } from 'ioredis';
import { expect, onTestFinished, test } from 'vitest';
import { openRedisCache } from '../../src/engine/cache/redis/cache.ts';
import { keyOf } from '../../src/engine/cache/redis/keys.ts';
import { Database } from '../../src/engine/database/database.ts';
import { readFeed } from '../../src/engine/feed/read/read.ts';
import { silentLog } from '../../src/engine/telemetry/log.ts';
import { truth } from '../engine/feed/feeds.ts';
import { NOTHING_WRONG } from '../support/cli.ts';
import { file } from '../support/files.ts';
import { FOUNDATIONS, spawnedCluster } from '../support/spawnedCluster.ts';

const AUTHORS = 40;
/** Author without followers. */
const STRANGER = 42;
/** Author with 24 followers and ten posts, which are deleted later. */
const DELETED = 41;
const READERS = Array.from({ length: 800 }, (_, i) => i + 101);
/** Users without faults, and users with each kind of fault. */
const SAMPLE = READERS.filter((reader) => reader % 25 === 1);
const foundation = FOUNDATIONS[1];

/** Returns one `actor target seconds kind` per post. */
function activity(): string {
  const posters = [
    ...Array.from({ length: 5 * AUTHORS }, (_, i) => 1 + (i % AUTHORS)),
    ...Array.from({ length: 10 }, () => DELETED),
    STRANGER,
  ];
  return posters.map((author, i) => `${author} 1 ${1_700_000_000 + i} MT\n`).join('');
}

test.skipIf(foundation.missing)(
  'of 1,000 faults that were planted, verify finds every one and no other, and repairs them all',
  { timeout: 180_000 },
  async () => {
    const cluster = await spawnedCluster(foundation);
    const pairs = READERS.flatMap((reader) => [
      `${reader} ${1 + (reader % AUTHORS)}`,
      `${reader} ${1 + ((reader + 13) % AUTHORS)}`,
      ...(reader > 876 ? [`${reader} ${DELETED}`] : []),
    ]);
    await cluster.json('seed', 'graph', await file(`${pairs.join('\n')}\n1 ${STRANGER}\n`, 'edges'));
    const worker = await cluster.worker();
    await cluster.json('replay', await file(activity(), 'activity'));
    worker.child.kill('SIGTERM');

    const db = new Database(cluster.url);
    onTestFinished(() => db.close());
    const url = cluster.at.env.FEEDCTL_CACHE_URL!;
    const cache = await openRedisCache(url, db, silentLog);
    onTestFinished(() => cache.close());
    const redis = new Redis(url);
    onTestFinished(() => void redis.disconnect());
    const feed = async (reader: number) =>
      (await readFeed(db, reader, { limit: 50 }, cache)).items.map(({ postId }) => postId);
    for (const reader of [...READERS, ...SAMPLE]) await feed(reader);
    for (const reader of SAMPLE) expect(await feed(reader)).toEqual(await truth(db, reader));
    const verify = async (...flags: string[]) => {
      const { status, stdout } = await cluster.run('feed', 'verify', '--all', ...flags, '--json');
      return { status, ...(JSON.parse(stdout) as object) };
    };
    expect(await verify()).toMatchObject({ status: 0, ...NOTHING_WRONG });

    const planted = async (statement: string) => (await db.query(statement)).rowCount;
    // A missing row, a row of an unfollowed author, a duplicate entry, and deletions without a notification.
    const missing = await planted(
      `delete from feed_items i where user_id between 101 and 350
         and post_id = (select max(post_id) from feed_items where user_id = i.user_id)`,
    );
    const strangers = await planted(
      `insert into feed_items (user_id, post_id, author_id)
       select u, p.id, p.author_id from generate_series(351, 600) u, posts p where p.author_id = ${STRANGER}`,
    );
    const now = await cache.state.now();
    for (let reader = 601; reader <= 850; reader += 1) {
      const key = keyOf(now, 'h', reader);
      await redis.append(key, await redis.getrangeBuffer(key, -16, -1));
    }
    const deleted = await planted(`update posts set deleted_at = now() where author_id = ${DELETED}`);
    expect([missing, strangers, deleted]).toEqual([250, 250, 10]);

    const found = {
      missing: 250,
      strangers: 250,
      duplicates: 250,
      orphans: 240,
      stale: 10,
      asymmetric: 0,
      mismatched: 774,
    };
    expect(await verify()).toMatchObject({ status: 1, ...found, repaired: 0 });
    expect(await verify('--repair')).toMatchObject({ status: 0, ...found, repaired: 784 });
    expect(await verify()).toMatchObject({ status: 0, ...NOTHING_WRONG });
    for (const reader of SAMPLE) expect(await feed(reader)).toEqual(await truth(db, reader));
  },
);
