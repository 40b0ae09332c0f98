import { expect, onTestFinished, test } from 'vitest';
import { dispatch } from '../../../src/engine/fanout/dispatcher.ts';
import { startWorker } from '../../../src/engine/fanout/worker.ts';
import type { EventRef } from '../../../src/engine/model/event.ts';
import { MAX_ID } from '../../../src/engine/model/ids.ts';
import { redispatchEvents } from '../../../src/engine/queues/redispatch.ts';
import { follow } from '../../../src/engine/social/follows.ts';
import { createPost } from '../../../src/engine/social/posts.ts';
import { ProcessStats } from '../../../src/engine/stats/process.ts';
import { insertPost } from '../../../src/engine/store/posts.ts';
import { openMetrics } from '../../../src/engine/telemetry/metrics.ts';
import { testCluster } from '../../support/cluster.ts';
import { testClient, testGateway } from '../../support/gateways.ts';

const signal = new AbortController().signal;

/** How often something was observed, by lane. */
const observed = (text: string, name: string) =>
  ['live', 'bulk'].map((lane) =>
    Number(new RegExp(`^${name}_seconds_count{lane="${lane}"} (\\d+)$`, 'm').exec(text)?.[1]),
  );

test('latency is of first deliveries alone, by lane, and what top says is of the live lane', async () => {
  const cluster = await testCluster();
  const { db } = cluster;
  let now = Date.now();
  const [metrics, stats] = [await openMetrics(), new ProcessStats(() => now)];
  const worker = await startWorker({ ...cluster, metrics, stats, version: 'test' });
  onTestFinished(() => worker.stop(5_000));
  const gateway = await testGateway(cluster);
  const [author, follower] = (await cluster.users(2)) as [number, number];
  await follow(cluster, { followerId: follower, followeeId: author });
  await cluster.settled();
  const client = await testClient(cluster, follower);
  await client.open(gateway.url);
  const fannedOut = async () => observed(await metrics.text(), 'feedctl_fanout_latency');
  const pushed = async () =>
    observed(await (await fetch(`${gateway.url}/metrics`)).text(), 'feedctl_gateway_push');
  expect(await fannedOut()).toEqual([0, 0]);

  const { id } = await createPost(cluster, author, 'live');
  await expect.poll(() => client.posts).toEqual([id]);
  await expect.poll(fannedOut).toEqual([1, 0]);
  await expect.poll(pushed).toEqual([1, 0]);
  // Once more, with the hour that it has been there since: sent again, and dispatched again.
  const { rows } = await db.query<EventRef>(
    `select id, type, aggregate_id as "aggregateId", subject_id as "subjectId"
     from events where subject_id = $1`,
    [id],
  );
  const old = { importId: 0, committedAt: Date.now() - 3_600_000 };
  await dispatch(cluster, rows, old, 'events');
  await cluster.settled();
  await db.query('delete from feed_items');
  await redispatchEvents(cluster, { from: 1, to: MAX_ID }, { signal, dryRun: false });
  await cluster.settled();
  // An import, which has waited for an hour.
  const [imported, eventId] = (await cluster.ids.take(2)) as [number, number];
  await insertPost(db, { id: imported, authorId: author, body: 'bulk', eventId });
  const event = { id: eventId, type: 'post.created', aggregateId: author, subjectId: imported } as const;
  await dispatch(cluster, [event], old, 'events.bulk');
  await expect.poll(() => client.posts).toContain(imported);
  await expect.poll(fannedOut).toEqual([1, 1]);
  await expect.poll(async () => (await pushed())[1]).toBe(1);

  now += 1_000;
  const report = stats.report().latency[1]!;
  // The follower's row; an author's own posts are read from the posts.
  expect(report.reduce((sum, [, rows]) => sum + rows, 0)).toBe(1);
});
