import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import {
  addFeedPartition,
  divideEmptyFeedPartition,
  feedPartitions,
} from '../../src/engine/database/feedPartitions.ts';
import { firstIdAt } from '../../src/engine/model/ids.ts';
import type { MoveResult } from '../../src/engine/shards/move.ts';
import { readActiveMoves } from '../../src/engine/shards/sql.ts';
import { follow, unfollow } from '../../src/engine/social/follows.ts';
import { createPost } from '../../src/engine/social/posts.ts';
import { feedctl, json, NOTHING_WRONG, start, testRole, waitUntil } from '../support/cli.ts';
import { citusDatabase, type TestCluster, testCluster } from '../support/cluster.ts';
import { cutFeedPartition, plainFeedPartitions } from '../support/feedPartitions.ts';
import { findServer } from '../support/server.ts';
import { holdUpMove, movableShard } from '../support/shardMoves.ts';

const server = await findServer('citus');
const USERS = 24;
const ROUNDS = 3;
const PAUSE_MS = 20;

/** Posts, follows and unfollows of random people, until it is stopped. Returns the number of posts. */
function traffic(cluster: TestCluster, users: readonly number[]) {
  let stopped = false;
  let posts = 0;
  const anyone = () => users[Math.floor(Math.random() * users.length)]!;
  const loops = [
    async () => {
      await createPost(cluster, anyone(), `post ${posts}`);
      posts += 1;
    },
    async () => {
      const pair = { followerId: anyone(), followeeId: anyone() };
      if (pair.followerId === pair.followeeId) return;
      await (Math.random() < 0.6 ? follow : unfollow)(cluster, pair);
    },
  ].map(async (work) => {
    for (; !stopped; await sleep(PAUSE_MS)) await work();
  });
  return {
    posted: () => posts,
    stop: async () => {
      stopped = true;
      await Promise.all(loops);
    },
  };
}

describe.skipIf(!server)('on Citus', () => {
  const fixture = async () => {
    const cluster = await testCluster(undefined, citusDatabase(server!));
    await plainFeedPartitions(cluster.db);
    const at = { env: { FEEDCTL_DATABASE_URL: cluster.url } };
    const users = await cluster.users(USERS);
    for (const followerId of users)
      for (const followeeId of users.slice(0, 4))
        if (followerId !== followeeId) await follow(cluster, { followerId, followeeId });
    return { cluster, at, users, worker: () => testRole(['worker', 'start'], at) };
  };

  test('shards move while partitions are made, divided and retired under live posts: no row is lost', {
    timeout: 900_000,
  }, async () => {
    const { cluster, at, users, worker } = await fixture();
    const { db } = cluster;
    const [killed] = [await worker(), await worker()];
    const live = traffic(cluster, users);
    await waitUntil(() => live.posted() > 20);
    const blockers = new Set<string>();
    const wait = { onBlocked: (by: string) => blockers.add(by) };
    const retired: string[] = [];
    const change = async (round: number) => {
      await cutFeedPartition(db, `feed_items_round${round}`, wait);
      const { from } = (await feedPartitions(db)).at(-1)!;
      await addFeedPartition(db, { name: `feed_items_last${round}`, from, to: from + 1 }, wait);
      await divideEmptyFeedPartition(db, firstIdAt(Date.UTC(2012, round)), wait);
      const trim = ['feed', 'trim', '--all', '--before', new Date().toISOString()];
      retired.push(...(await json<{ partitions: string[] }>(trim, at)).partitions);
    };
    const move = async (round: number) => {
      const { shard, to } = await movableShard(db, round);
      return json<MoveResult>(['shards', 'move', String(shard), to, '--yes'], at);
    };
    // The first change finds a move in its way. Later ones meet moves by chance.
    const { shard } = await movableShard(db);
    const { first, changing } = await db.transaction(async (session) => {
      await holdUpMove(session, shard);
      const first = move(0);
      await waitUntil(async () => (await readActiveMoves(db)).length > 0);
      const changing = change(0);
      await waitUntil(() => [...blockers].some((by) => by.includes('citus_move_shard_placement')));
      return { first, changing };
    });
    const moves = [await first];
    const rounds = (async () => {
      await changing;
      for (let round = 1; round < ROUNDS; round += 1) await change(round);
    })();
    let done = false;
    void rounds
      .catch(() => {})
      .finally(() => {
        done = true;
      });
    for (let round = 1; !done || round < ROUNDS; round += 1) {
      if (round === 1) {
        killed!.child.kill('SIGKILL');
        await killed!.ended;
        await worker();
      }
      moves.push(await move(round));
    }
    await rounds;
    const posts = live.posted();
    await waitUntil(() => live.posted() > posts + 20);
    await live.stop();
    await cluster.settled();
    expect(moves.every(({ moved }) => moved)).toBe(true);
    for (let round = 0; round < ROUNDS; round += 1) expect(retired).toContain(`feed_items_round${round}`);
    expect(await json(['feed', 'verify', '--all'], at)).toMatchObject({ checked: USERS, ...NOTHING_WRONG });
    expect((await db.query('select 1 from bus.dead_letters')).rowCount).toBe(0);
    const names = (await feedPartitions(db)).map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(['feed_items_last0', `feed_items_last${ROUNDS - 1}`]));
  });

  test('a move and a retirement that wait for each other may be killed: nothing stays locked', {
    timeout: 300_000,
  }, async () => {
    const { cluster, at, users, worker } = await fixture();
    const { db } = cluster;
    await worker();
    for (const user of users) await createPost(cluster, user, 'old');
    await cluster.settled();
    await cutFeedPartition(db, 'feed_items_old');
    const trim = ['feed', 'trim', '--all', '--before', new Date().toISOString()];
    const { shard, to } = await movableShard(db);
    const move = ['shards', 'move', String(shard), to, '--yes'];
    const partitions = async () => (await feedPartitions(db)).map(({ name }) => name);
    const waits = async (text: string) =>
      (
        await db.query(`select 1 from pg_stat_activity where wait_event_type = 'Lock' and query like $1`, [
          text,
        ])
      ).rowCount! > 0;
    const outcomes = await db.transaction(async (session) => {
      await holdUpMove(session, shard);
      const moving = start(move, at);
      await waitUntil(async () => (await readActiveMoves(db)).length > 0);
      const killed = start(trim, at);
      await waitUntil(() => waits('lock table feed_items%'));
      killed.child.kill('SIGKILL');
      await killed.ended;
      const trimming = start([...trim, '--json'], at);
      await waitUntil(() => waits('lock table feed_items%'));
      moving.child.kill('SIGINT');
      return { moved: await moving.ended, trimmed: await trimming.ended };
    });
    expect(outcomes.moved).toMatchObject({ status: 3, stderr: expect.stringContaining('(INTERRUPTED)') });
    expect(outcomes.trimmed, outcomes.trimmed.stderr).toMatchObject({ status: 0 });
    expect(JSON.parse(outcomes.trimmed.stdout)).toMatchObject({
      partitions: expect.arrayContaining(['feed_items_old']),
    });
    expect(await partitions()).not.toContain('feed_items_old');

    // A killed client leaves its statement to the server, which completes the move or undoes it.
    const left = await db.transaction(async (session) => {
      await session.query('lock table feed_items in access exclusive mode');
      const moving = start(move, at);
      await waitUntil(() => waits('select citus_move_shard_placement%'));
      moving.child.kill('SIGKILL');
      return moving.ended;
    });
    expect(left.status).toBe('SIGKILL');
    const moves = `select 1 from pg_stat_activity where state = 'active' and query like 'select citus_move%'`;
    await waitUntil(async () => (await db.query(moves)).rowCount === 0);
    const again = await feedctl([...move, '--json'], at);
    expect(again, again.stdout).toMatchObject({ status: 0 });
    for (const user of users) await createPost(cluster, user, 'new');
    await cluster.settled();
    expect(await json(['feed', 'verify', '--all'], at)).toMatchObject({ checked: USERS, ...NOTHING_WRONG });
  });
});
