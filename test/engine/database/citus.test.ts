import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import type { Bus } from '../../../src/engine/bus/bus.ts';
import { markCelebrity, unmarkCelebrity } from '../../../src/engine/celebrities/change.ts';
import { Database } from '../../../src/engine/database/database.ts';
import { checkSchema, migrate, schemaState } from '../../../src/engine/database/migrate.ts';
import { ShardReaders } from '../../../src/engine/database/shardReaders.ts';
import { CopyBuffer } from '../../../src/engine/fanout/copyBuffer.ts';
import { sweep } from '../../../src/engine/fanout/sweeper.ts';
import { startWorker } from '../../../src/engine/fanout/worker.ts';
import { rebuild } from '../../../src/engine/feed/rebuild/rebuild.ts';
import { trim } from '../../../src/engine/feed/trim/trim.ts';
import { verify } from '../../../src/engine/feed/verify/verify.ts';
import { replay } from '../../../src/engine/imports/activity.ts';
import { seedGraph } from '../../../src/engine/imports/followGraph.ts';
import { ROW_BYTES, rowUser } from '../../../src/engine/model/messages.ts';
import { RowsMessage } from '../../../src/engine/model/rowsMessage.ts';
import { follow, unfollow } from '../../../src/engine/social/follows.ts';
import { createPost, deletePost } from '../../../src/engine/social/posts.ts';
import { dropCitusDatabase, emptyCitusDatabase } from '../../support/citus.ts';
import { DEMO_ACTIVITY, DEMO_GRAPH, start, waitUntil } from '../../support/cli.ts';
import {
  citusDatabase,
  emptyDatabase,
  freshDatabase,
  type TestCluster,
  testCluster,
} from '../../support/cluster.ts';
import { rejection } from '../../support/codes.ts';
import { findServer } from '../../support/server.ts';
import { ids, scroll } from '../feed/feeds.ts';

const server = await findServer('citus');

test('a store that has to be Citus and is not says how to mend it', async () => {
  const { db } = await emptyDatabase();
  for (const work of [migrate, schemaState, checkSchema])
    expect(await rejection(work(db, 'citus') as Promise<unknown>)).toMatchObject({ code: 'CITUS_MISSING' });
});

/** Runs the pipelines on plain PostgreSQL and on Citus. Feeds equal the truth after each step. */
describe.each([
  { name: 'PostgreSQL', database: freshDatabase, there: true },
  { name: 'Citus', database: () => citusDatabase(server!), there: server !== undefined },
])('on $name', ({ database, there }) => {
  let cluster: TestCluster;
  beforeEach(async ({ skip }) => {
    if (!there) skip();
    cluster = await testCluster(undefined, database());
  });

  const expectTruth = async (users: readonly number[]) => {
    for (const user of users)
      expect(ids(await scroll(cluster.db, user, 3))).toEqual(await plainTruth(cluster.db, user));
    expect(await verify(cluster.db, undefined)).toMatchObject({ mismatched: 0, asymmetric: 0 });
  };

  test('posts, follows, unfollows and deletions', async () => {
    await cluster.startWorker();
    const users = await cluster.users(6);
    const [author, other] = users as [number, number];
    for (const followerId of users.slice(1)) await follow(cluster, { followerId, followeeId: author });
    const posts = [];
    for (let i = 0; i < 4; i += 1) posts.push(await createPost(cluster, i % 2 ? author : other, `post ${i}`));
    await follow(cluster, { followerId: users[2]!, followeeId: other });
    await deletePost(cluster, posts[1]!.id);
    await unfollow(cluster, { followerId: users[3]!, followeeId: author });
    await cluster.settled();
    // Rows that were planned before the deletion are removed again after they have been written.
    await waitUntil(async () => (await cluster.bus.depths()).every((depth) => depth.queue !== 'cleanup'));
    await expectTruth(users);
  });

  test('a celebrity is marked and unmarked, feeds are trimmed and rebuilt', async () => {
    await cluster.startWorker();
    const users = await cluster.users(6);
    const [author] = users as [number];
    for (const followerId of users.slice(1)) await follow(cluster, { followerId, followeeId: author });
    for (let i = 0; i < 8; i += 1) await createPost(cluster, author, `post ${i}`);
    await cluster.settled();
    expect(await markCelebrity(cluster, author)).toMatchObject({ followers: 5, items: 40, changed: true });
    await createPost(cluster, author, 'merged');
    await cluster.settled();
    await expectTruth(users);
    expect(await unmarkCelebrity(cluster, author)).toMatchObject({ followers: 5, items: 45 });
    await expectTruth(users);
    expect(await trim(cluster.db, undefined, { keep: 3 })).toMatchObject({ users: 5, items: 30 });
    await expectTruth(users);
    await cluster.db.query('delete from feed_items where user_id = any($1)', [users.slice(2, 4)]);
    await cluster.db.query('insert into feed_items values ($1, $2, $3)', [users[4], 2 ** 52, users[5]]);
    expect(await verify(cluster.db, undefined)).toMatchObject({ mismatched: 3, missing: 6, strangers: 1 });
    expect(await rebuild(cluster.db, undefined)).toMatchObject({ users: 6, items: 45 });
    await expectTruth(users);
  });

  test('of messages of an earlier history only what the database has is written', async () => {
    const { db } = cluster;
    const [author, lost, ...readers] = (await cluster.users(14)) as [number, number, ...number[]];
    for (const followerId of readers)
      for (const followeeId of [author, lost]) await follow(cluster, { followerId, followeeId });
    const kept = await createPost(cluster, author, 'kept');
    const gone = await createPost(cluster, lost, 'gone');
    await db.query('delete from posts where author_id = $1 and id = $2', [lost, gone.id]);
    // The planner reads `followers`, so the rows of these pairs reach the writer.
    const unfollowed = readers.slice(0, 4);
    await db.query('delete from follows where follower_id = any($1)', [unfollowed]);
    const worker = await startWorker({ ...cluster, bus: withEarlier(cluster.bus), version: 'test' });
    onTestFinished(() => worker.stop(5_000));
    await cluster.settled();
    const { rows } = await db.query<{ user: number; post: number }>(
      'select user_id as user, post_id as post from feed_items order by user_id',
    );
    const following = readers.slice(4).sort((a, b) => a - b);
    expect(rows).toEqual(following.map((user) => ({ user, post: kept.id })));
    expect((await db.query('select 1 from bus.dead_letters')).rowCount).toBe(0);
  });

  test('a graph is loaded and an activity replayed, twice; events nobody dispatched are swept', async () => {
    await seedGraph(cluster, [DEMO_GRAPH], { celebrityThreshold: 100 });
    await cluster.startWorker();
    const first = await replay(cluster, DEMO_ACTIVITY);
    expect(first.deliveries).toBeGreaterThan(0);
    expect(await replay(cluster, DEMO_ACTIVITY)).toMatchObject({ posts: 0, deliveries: 0 });
    const { rows } = await cluster.db.query<{ count: number }>('select count(*) as count from feed_items');
    expect(rows[0]!.count).toBe(first.deliveries);
    await cluster.db.query(
      `update events set dispatched_at = null, occurred_at = '2012-07-04' where id % 7 = 0`,
    );
    expect(await sweep(cluster)).toBeGreaterThan(0);
    await cluster.settled();
    const after = await cluster.db.query<{ count: number }>('select count(*) as count from feed_items');
    expect(after.rows[0]!.count).toBe(first.deliveries);
    expect(await verify(cluster.db, undefined)).toMatchObject({ mismatched: 0, asymmetric: 0 });
  });
});

/** A bus whose messages are of an earlier history of the database. */
const withEarlier = (bus: Bus): Bus =>
  new Proxy(bus, {
    get(target, name) {
      const consume: Bus['consume'] = (options, take) =>
        target.consume(options, (deliveries) => {
          for (const delivery of deliveries) Object.defineProperty(delivery, 'earlier', { value: true });
          take(deliveries);
        });
      const found: unknown = Reflect.get(target, name, target);
      return name === 'consume' ? consume : typeof found === 'function' ? found.bind(target) : found;
    },
  });

async function plainTruth(db: Database, user: number): Promise<number[]> {
  const { rows } = await db.query<{ id: number }>(
    'select followee_id as id from follows where follower_id = $1',
    [user],
  );
  const posts = await db.query<{ id: number }>(
    'select id from posts where author_id = any($1) and deleted_at is null order by id desc',
    [[user, ...rows.map((row) => row.id)]],
  );
  return posts.rows.map((row) => row.id);
}

describe.skipIf(!server)('Citus', () => {
  test('migrate distributes, goes on where it was cut off, and refuses what is distributed otherwise', async () => {
    const name = `test_distribution_${process.pid}`;
    await dropCitusDatabase(server!, name);
    const db = new Database(await emptyCitusDatabase(server!, name), { maxSessions: 4 });
    try {
      const { pending } = await schemaState(db);
      expect(pending).toContain('distribute feed_items');
      const done = await Promise.all(Array.from({ length: 3 }, () => migrate(db)));
      expect(done.flat()).toEqual(pending);
      await checkSchema(db, 'citus');
      await db.query(`insert into users (id) values (1)`);
      await db.query(`select undistribute_table('feed_items')`);
      expect((await rejection(checkSchema(db))).code).toBe('SCHEMA_MISSING');
      expect(await migrate(db)).toEqual(['distribute feed_items']);
      await db.query(`select undistribute_table('posts')`);
      await db.query(`select create_distributed_table('posts', 'id', colocate_with => 'users')`);
      expect((await rejection(migrate(db))).code).toBe('DISTRIBUTION_WRONG');
    } finally {
      await db.close();
      await dropCitusDatabase(server!, name);
    }
  });

  test('the topology puts every id where Citus has it, and rows are split by it', async () => {
    const { db } = await citusDatabase(server!);
    const users = Array.from({ length: 300 }, (_, i) => 1 + i * 7_919_393);
    const sharding = await db.sharding();
    const shards = await db.query<{ id: number; shard: number }>(
      `select u.id, get_shard_id_for_distribution_column('feed_items', u.id) as shard
       from unnest($1::bigint[]) u(id)`,
      [users],
    );
    const nth = [...new Set(shards.rows.map((row) => row.shard))].sort((a, b) => a - b);
    expect(nth).toHaveLength(sharding.shards.length);
    for (const { id, shard } of shards.rows) expect(nth[sharding.shardOfId(id)]).toBe(shard);
    const parts = [users.slice(0, 100), users.slice(100)].map((part) => {
      const message = new RowsMessage();
      const posts = { authorId: 2, postIds: [1] };
      for (const user of part) message.add(Math.floor(user / 2 ** 32), user % 2 ** 32, posts);
      return { body: message.seal({ importId: 0, committedAt: 0 }), count: part.length };
    });
    const seen: number[] = [];
    for (const { rows, counts } of new CopyBuffer().expandByShard(parts, sharding)) {
      const of = Array.from({ length: rows.length / ROW_BYTES }, (_, i) => rowUser(rows, i * ROW_BYTES));
      expect(new Set(of.map((user) => sharding.shardOfId(user))).size).toBe(1);
      expect(
        counts.map((_, part) => of.filter((user) => users.indexOf(user) < 100 === (part === 0)).length),
      ).toEqual(counts);
      seen.push(...of);
    }
    expect(seen.sort((a, b) => a - b)).toEqual(users);
  });

  test('a shard is read at its node, and by the coordinator where the node cannot be reached', async () => {
    const { db } = await citusDatabase(server!);
    await db.query('insert into users (id) select generate_series(1, 50)');
    const sharding = await db.sharding();
    const ports = new Set<number>();
    const look = async (readers: ShardReaders) => {
      for (let id = 1; id <= 50; id += 1) {
        const found = await readers.withSession(id, (session) =>
          session.query<{ id: number; port: number }>(
            `select id, current_setting('port')::integer as port from users where id = ${id}`,
          ),
        );
        expect(found.rows.map((row) => row.id)).toEqual([id]);
      }
    };
    const readers = new ShardReaders(db);
    await look(readers);
    for (const { node } of sharding.shards) {
      const pool = await readers.withSession(1, async (session) => session.query('select 1'));
      expect(pool.rowCount).toBe(1);
      ports.add(node.port);
    }
    expect(ports.size).toBe(2);
    await readers.close();
    for (const { node } of sharding.shards) (node as { port: number }).port = 1;
    const far = new ShardReaders(db);
    await look(far);
    await far.close();
  });

  test('the nodes are found if the URL names several hosts', async () => {
    const { url } = await citusDatabase(server!);
    const { hostname, port } = new URL(url);
    const db = new Database(url.replace(`@${hostname}:${port}/`, `@${hostname}:1,${hostname}:${port}/`));
    const readers = new ShardReaders(db);
    onTestFinished(() => Promise.all([readers.close(), db.close()]).then(() => undefined));
    await db.query('insert into users (id) select generate_series(1, 50)');
    const { shards } = await db.sharding();
    const ports = new Set<string>();
    for (let id = 1; id <= 50; id += 1)
      await readers.withSession(id, async (session) => {
        const { rows } = await session.query<{ port: string }>('show port');
        ports.add(rows[0]!.port);
        expect(await session.query(`select from users where id = ${id}`)).toMatchObject({ rowCount: 1 });
      });
    expect([...ports].sort()).toEqual([...new Set(shards.map(({ node }) => `${node.port}`))].sort());
  });

  test('shards move while posts are made and fanned out: no row is lost', async () => {
    const cluster = await testCluster(undefined, citusDatabase(server!));
    const { db } = cluster;
    await seedGraph(cluster, [DEMO_GRAPH], { celebrityThreshold: 1_000 });
    await cluster.startWorker();
    let moving = true;
    let moved = 0;
    const moves = (async () => {
      while (moving) {
        const { rows } = await db.query<{
          shard: number;
          host: string;
          port: number;
          to: string;
          toPort: number;
        }>(
          `select s.shardid as shard, n.nodename as host, n.nodeport as port, o.nodename as to,
                  o.nodeport as "toPort"
           from pg_dist_shard s join pg_dist_placement p using (shardid) join pg_dist_node n using (groupid)
           join pg_dist_node o on o.groupid <> n.groupid and o.shouldhaveshards and o.groupid <> 0
           where s.logicalrelid = 'feed_items'::regclass order by random() limit 1`,
        );
        const { shard, host, port, to, toPort } = rows[0]!;
        await db.query(`select citus_move_shard_placement($1, $2, $3, $4, $5, 'force_logical')`, [
          shard,
          host,
          port,
          to,
          toPort,
        ]);
        moved += 1;
        await sleep(10);
      }
    })();
    const result = await replay(cluster, DEMO_ACTIVITY);
    while (moved < 2) await sleep(20);
    moving = false;
    await moves;
    await cluster.settled();
    expect(result.deliveries).toBeGreaterThan(0);
    expect(await verify(db, undefined)).toMatchObject({ mismatched: 0, asymmetric: 0 });
    const dead = await db.query('select 1 from bus.dead_letters');
    expect(dead.rowCount).toBe(0);
  });

  test('a worker process is killed in mid-batch: nothing is lost, and nothing good is put aside', async () => {
    const cluster = await testCluster(undefined, citusDatabase(server!));
    const { db } = cluster;
    await seedGraph(cluster, [DEMO_GRAPH], { celebrityThreshold: 1_000 });
    const startProcess = async () => {
      const worker = start(['worker', 'start', '--json'], { env: { FEEDCTL_DATABASE_URL: cluster.url } });
      await worker.printed(/"ready": true/);
      return worker;
    };
    const rows = async () =>
      (await db.query<{ count: number }>('select count(*) as count from feed_items')).rows[0]!.count;
    const killed = await startProcess();
    const replayed = replay(cluster, DEMO_ACTIVITY);
    await waitUntil(async () => (await rows()) > 0);
    killed.child.kill('SIGKILL');
    await killed.ended;
    const before = await rows();
    const successor = await startProcess();
    await replayed;
    expect(await rows()).toBeGreaterThan(before);
    expect(await verify(db, undefined)).toMatchObject({ mismatched: 0, asymmetric: 0 });
    expect((await db.query('select 1 from bus.dead_letters')).rowCount).toBe(0);
    successor.child.kill('SIGTERM');
    expect(await successor.ended).toMatchObject({ status: 0 });
  });
});
