import { describe, expect, onTestFinished, test } from 'vitest';
import { Database } from '../../../src/engine/database/database.ts';
import { addFeedPartition, dividing, feedPartitions } from '../../../src/engine/database/feedPartitions.ts';
import { urlAt } from '../../../src/engine/database/hosts.ts';
import { withShortLocks } from '../../../src/engine/database/shortLocks.ts';
import { moveShard } from '../../../src/engine/shards/move.ts';
import { readActiveMoves, readShards } from '../../../src/engine/shards/sql.ts';
import { waitUntil } from '../../support/cli.ts';
import { citusDatabase } from '../../support/cluster.ts';
import { rejection } from '../../support/codes.ts';
import { findServer } from '../../support/server.ts';
import { holdUpMove, isMoveWaiting, movableShard } from '../../support/shardMoves.ts';

const server = await findServer('citus');
const ALL_LOCKS = 'lock table feed_items in access exclusive mode';
const NO_WAIT = { timeoutMs: 0 };

/** Another pool on the same coordinator, as another process has it. */
function anotherPool(url: string): Database {
  const db = new Database(url);
  onTestFinished(() => db.close());
  return db;
}

/** A partition of one post id at the end of the table. */
async function nextPartition(db: Database, name: string) {
  const { from } = (await feedPartitions(db)).at(-1)!;
  return { name, from, to: from + 1 };
}
const names = async (db: Database) => (await feedPartitions(db)).map(({ name }) => name);
const nodeOf = async (db: Database, shard: number) =>
  (await readShards(db)).find((one) => one.shard === shard)!.node;

describe.skipIf(!server)('on Citus', () => {
  test('a change of partitions waits for a session at a node within its limits, and readers go on', async () => {
    const { db, url } = await citusDatabase(server!);
    await db.query('insert into users (id) values (1)');
    const sharding = await db.sharding();
    const { host, port } = sharding.shards[sharding.shardOfId(1)]!.node;
    const node = new Database(urlAt(url, host, port), { applicationName: 'nightly report' });
    onTestFinished(() => node.close());
    const last = await nextPartition(db, 'feed_items_next');
    await node.withSession(async (session) => {
      await session.query('begin');
      await session.query('select 1 from feed_items where user_id = 1');
      const refused = await rejection(addFeedPartition(db, last, NO_WAIT));
      expect(refused).toMatchObject({ code: 'SCHEMA_LOCKED', message: expect.stringContaining('locked by') });
      const blockers: string[] = [];
      const adding = addFeedPartition(db, last, { onBlocked: (by) => blockers.push(by) });
      await waitUntil(() => blockers.length > 0);
      expect(blockers[0]).toContain(`at ${host}:${port} of `);
      expect(blockers[0]).toContain('nightly report');
      for (let n = 0; n < 3; n += 1) await db.query('select 1 from feed_items where user_id = 2');
      expect(await names(db)).not.toContain(last.name);
      await session.query('rollback');
      await adding;
    });
    expect(await names(db)).toContain(last.name);
  });

  test('a change keeps its locks no longer than half a minute if its process stops', async () => {
    const { db } = await citusDatabase(server!);
    const shown = await withShortLocks(db, (limit) =>
      db.transaction(async (session) => {
        await limit(session, 'local');
        const { rows } = await session.query<{ limit: string }>(
          `select current_setting('idle_in_transaction_session_timeout') as limit`,
        );
        return rows[0]!.limit;
      }),
    );
    expect(shown).toBe('30s');
  });

  test('a partition that is made while a move begins is made after the move', async () => {
    const { db, url } = await citusDatabase(server!);
    const { shard, to } = await movableShard(db);
    const mover = anotherPool(url);
    const next = await nextPartition(db, 'feed_items_next');
    let moving: Promise<unknown> | undefined;
    let attempts = 0;
    await withShortLocks(db, (limit) =>
      db.transaction(async (session) => {
        attempts += 1;
        await limit(session, 'local');
        await session.query(ALL_LOCKS);
        if (!moving) {
          moving = moveShard(mover, shard, to);
          await waitUntil(() => isMoveWaiting(mover));
        }
        const last = { name: 'feed_items_after', from: next.from, to: Number.POSITIVE_INFINITY };
        for (const statement of dividing(last, { name: next.name, cut: next.to }))
          await session.query(statement);
      }),
    );
    expect(await moving).toMatchObject({ moved: true });
    expect(attempts).toBeGreaterThan(1);
    expect(await names(db)).toContain(next.name);
    expect(await nodeOf(db, shard)).toBe(to);
  });

  test('a move starts over that meets a table being made, or one that goes', async () => {
    const { db, url } = await citusDatabase(server!);
    const { shard, to } = await movableShard(db);
    const mover = anotherPool(url);
    // The pool discards a session whose statement was refused.
    let refused = 0;
    mover.pool.on('remove', () => {
      refused += 1;
    });
    let moving: Promise<unknown> | undefined;
    await db.transaction(async (session) => {
      // As a new partition, but without locks that the plan of the move would wait for.
      await session.query('create table another (id bigint primary key)');
      await session.query(`select create_distributed_table('another', 'id', colocate_with => 'users')`);
      moving = moveShard(mover, shard, to);
      await waitUntil(() => refused > 0);
    });
    expect(await moving).toMatchObject({ moved: true });
    expect(await nodeOf(db, shard)).toBe(to);

    const [back, before] = [await movableShard(db), refused];
    const next = await nextPartition(db, 'feed_items_next');
    await addFeedPartition(db, next);
    await db.transaction(async (session) => {
      await session.query(ALL_LOCKS);
      moving = moveShard(mover, back.shard, back.to);
      await waitUntil(() => isMoveWaiting(mover));
      for (const statement of [
        'alter table feed_items detach partition feed_items_after',
        `drop table ${next.name}`,
        `alter table feed_items attach partition feed_items_after for values from (${next.from}) to (maxvalue)`,
      ])
        await session.query(statement);
    });
    expect(await moving).toMatchObject({ moved: true });
    expect(refused).toBeGreaterThan(before);
    expect(await nodeOf(db, back.shard)).toBe(back.to);
    expect(await names(db)).not.toContain(next.name);
  });

  test('an interrupted move frees a change that waits, and an interrupted change a move', async () => {
    const { db, url } = await citusDatabase(server!);
    await db.query('insert into users (id) select generate_series(1, 100)');
    const { shard, to } = await movableShard(db);
    const mover = anotherPool(url);
    const next = await nextPartition(db, 'feed_items_next');
    const stop = new AbortController();
    const blockers: string[] = [];
    let adding: Promise<unknown> | undefined;
    const undone = await db.transaction(async (session) => {
      await holdUpMove(session, shard);
      const moving = rejection(moveShard(mover, shard, to, { signal: stop.signal }));
      await waitUntil(async () => (await readActiveMoves(db)).length > 0);
      adding = addFeedPartition(db, next, { onBlocked: (by) => blockers.push(by) });
      await waitUntil(() => blockers.some((by) => by.includes('citus_move_shard_placement')));
      stop.abort();
      return moving;
    });
    expect(undone.code).toBe('INTERRUPTED');
    await adding;
    expect(await names(db)).toContain(next.name);
    expect(await nodeOf(db, shard)).not.toBe(to);

    const changer = anotherPool(url);
    const waiting = await changer.withSession(async (session) => {
      await session.query('begin');
      await session.query(ALL_LOCKS);
      const moving = moveShard(mover, shard, to);
      await waitUntil(() => isMoveWaiting(mover));
      await session.query('rollback');
      return { moving };
    });
    expect(await waiting.moving).toMatchObject({ moved: true });
    expect(await nodeOf(db, shard)).toBe(to);
  });
});
