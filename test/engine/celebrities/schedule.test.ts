import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import { changeCelebrityPolicy } from '../../../src/engine/celebrities/policy.ts';
import { scheduleEvaluations } from '../../../src/engine/celebrities/schedule.ts';
import type { Database } from '../../../src/engine/database/database.ts';
import { pauseFanout, resumeFanout } from '../../../src/engine/fanout/laneControl.ts';
import { readFeed } from '../../../src/engine/feed/read/read.ts';
import { verify } from '../../../src/engine/feed/verify/verify.ts';
import { listOperations } from '../../../src/engine/operations/table.ts';
import { follow } from '../../../src/engine/social/follows.ts';
import { createPost } from '../../../src/engine/social/posts.ts';
import { testCluster } from '../../support/cluster.ts';

const { signal } = new AbortController();

/** Reads feeds continuously: a post that was in a feed stays in it, exactly once. */
function readAllTheTime(db: Database, readers: readonly number[]) {
  const seen = new Map(readers.map((reader) => [reader, new Set<number>()]));
  const faults: string[] = [];
  let reading = true;
  let reads = 0;
  const polling = (async () => {
    for (; reading; reads += 1) {
      const reader = readers[reads % readers.length]!;
      const ids = (await readFeed(db, reader, { limit: 100 })).items.map(({ postId }) => postId);
      const page = new Set(ids);
      if (page.size < ids.length) faults.push(`${reader} saw a post twice: ${ids}`);
      for (const id of seen.get(reader)!) if (!page.has(id)) faults.push(`${reader} missed ${id}`);
      for (const id of ids) seen.get(reader)!.add(id);
    }
  })();
  return {
    seen: (reader: number) => seen.get(reader)!.size,
    reads: () => reads,
    stop: async () => {
      reading = false;
      await polling;
      return faults;
    },
  };
}

test('an evaluation whose process is killed is ended by another: readers miss nothing and see nothing twice', async () => {
  const cluster = await testCluster();
  const { db, url } = cluster;
  await cluster.startWorker();
  const [first, second, ...readers] = (await cluster.users(5)) as [number, number, ...number[]];
  const authors = [first, second];
  for (const followeeId of authors)
    for (const followerId of readers) await follow(cluster, { followerId, followeeId });
  for (const author of authors) await createPost(cluster, author, 'before');
  await cluster.settled();
  const reading = readAllTheTime(db, readers);
  onTestFinished(async () => void (await reading.stop()));

  // The change waits for the paused lane: the first author is between push and pull.
  await pauseFanout(db, ['live', 'bulk'], { reason: null, dryRun: false, timeoutMs: 60_000, signal });
  for (const author of authors) await createPost(cluster, author, 'meanwhile');
  const policy = { threshold: 2, releaseAt: 1, automatic: true, everySeconds: 3_600 };
  await changeCelebrityPolicy(db, () => policy);
  const file = fileURLToPath(new URL('evaluator.ts', import.meta.url));
  const victim = spawn(process.execPath, [file, url], { stdio: ['ignore', 'ignore', 'inherit'] });
  onTestFinished(() => void victim.kill('SIGKILL'));
  const states = async () =>
    (await db.query<{ state: string }>('select push_state as state from users order by id')).rows
      .slice(0, 2)
      .map(({ state }) => state);
  await expect.poll(states, { timeout: 30_000 }).toEqual(['pull', 'push']);

  // Another one checks as well, and leaves the work to the first.
  const stop = scheduleEvaluations(cluster, 20);
  onTestFinished(stop);
  const evaluation = async () => (await listOperations(db, { kind: 'celebrity evaluation', limit: 10 }))[0]!;
  const { id } = await evaluation();
  victim.kill('SIGKILL');
  await once(victim, 'exit');
  await expect.poll(async () => (await evaluation()).runs, { timeout: 30_000 }).toBe(2);
  expect(await evaluation()).toMatchObject({ id, state: 'running', command: null });
  await resumeFanout(db, ['live', 'bulk'], { dryRun: false });
  await expect.poll(async () => (await evaluation()).state, { timeout: 60_000 }).toBe('done');
  expect(await evaluation()).toMatchObject({ id, runs: 2, result: { marked: 2, unmarked: 0, failed: 0 } });
  expect(await states()).toEqual(['pull', 'pull']);

  for (const author of authors) await createPost(cluster, author, 'after');
  for (const reader of readers) await expect.poll(() => reading.seen(reader)).toBe(6);
  const before = reading.reads();
  await expect.poll(reading.reads).toBeGreaterThan(before + 2 * readers.length);
  expect(await reading.stop()).toEqual([]);
  expect((await db.query('select from feed_items')).rowCount).toBe(0);
  await cluster.settled();
  expect(await verify(db, undefined)).toMatchObject({ mismatched: 0, asymmetric: 0 });
  expect(await listOperations(db, { states: ['running', 'interrupted', 'failed'], limit: 10 })).toEqual([]);
}, 120_000);
