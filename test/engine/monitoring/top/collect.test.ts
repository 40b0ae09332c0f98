import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { lockCluster } from '../../../../src/engine/config/clusterState.ts';
import { loadConfig } from '../../../../src/engine/config/config.ts';
import type { Database } from '../../../../src/engine/database/database.ts';
import { openTop, type TopCollector } from '../../../../src/engine/monitoring/top/collect.ts';
import { freshDatabase, plainDatabase } from '../../../support/cluster.ts';
import { openProxy } from '../../../support/proxy.ts';

const env = { XDG_CONFIG_HOME: '/nonexistent' };

async function collector(flags: Parameters<typeof loadConfig>[0]): Promise<TopCollector> {
  const opened = await openTop(await loadConfig(flags, env), { complete: true });
  const looking = setInterval(() => opened.refresh(100), 50);
  onTestFinished(async () => {
    clearInterval(looking);
    await opened.close();
  });
  return opened;
}
const faults = (top: TopCollector) =>
  Object.fromEntries(top.snapshot().sources.map(({ name, error }) => [name, error?.code ?? 'none']));
const NEEDED = ['figures', 'queues', 'roles', 'operations', 'celebrities', 'shards', 'moves', 'storage'];
const OF_PANES = ['database', 'machine', 'events'];
const nothing = Object.fromEntries([...NEEDED, ...OF_PANES].map((name) => [name, 'none']));

test('a database that says nothing for a while is asked everything as soon as it answers', async () => {
  const { url } = await freshDatabase();
  const proxy = await openProxy(url);
  const top = await collector({ databaseUrl: proxy.url });
  expect(faults(top)).toEqual(nothing);
  proxy.stall();
  await expect
    .poll(() => faults(top), { interval: 20 })
    .toMatchObject({ figures: 'TIMED_OUT', queues: 'TIMED_OUT', operations: 'TIMED_OUT' });
  const { health, sources } = top.snapshot();
  expect(health.problems[0]).toMatch(/TIMED_OUT \((\d|all) sources\): no answer within 5 s/);
  expect(sources.find(({ name }) => name === 'figures')!.everyMs).toBeGreaterThan(90_000);
  proxy.open();
  await expect.poll(() => faults(top), { interval: 20 }).toEqual(nothing);
});

test('a look at an embedded cluster that is gone does not bring it back where another runs by now', async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'feedctl-top-'));
  onTestFinished(() => rm(dataDir, { recursive: true, force: true }));
  const [before, now] = await Promise.all([plainDatabase(), plainDatabase()]);
  const lock = await lockCluster(dataDir, 'test');
  onTestFinished(() => lock.release());
  await lock.publish({ databaseUrl: before.url });
  const top = await collector({ dataDir });
  expect(faults(top)).toEqual(nothing);
  const hold = Promise.withResolvers<void>();
  const locked = Promise.withResolvers<void>();
  const holding = before.db.transaction(async (session) => {
    await session.query('lock table bus.messages in access exclusive mode');
    locked.resolve();
    await hold.promise;
  });
  onTestFinished(() => {
    hold.resolve();
    return holding;
  });
  await locked.promise;
  const ask = async (db: Database, condition: string): Promise<number[]> =>
    (
      await db.query<{ pid: number }>(
        `select pid from pg_stat_activity where datname = current_database() and ${condition}`,
      )
    ).rows.map(({ pid }) => pid);
  // Only the source of the queues waits.
  let waiting: number[] = [];
  await expect
    .poll(
      async () => {
        waiting = await ask(before.db, "wait_event_type = 'Lock'");
        return waiting.length;
      },
      { interval: 20 },
    )
    .toBe(1);
  await lock.publish({ databaseUrl: now.url });
  await before.db.query('alter table process_figures rename to gone');
  await expect
    .poll(() => ask(now.db, "application_name = 'feedctl top'"), { interval: 20 })
    .not.toHaveLength(0);
  await expect.poll(() => faults(top).figures, { interval: 20 }).toBe('none');
  const seen: unknown[] = [];
  top.onChange = () => {
    seen.push(faults(top));
  };
  await before.db.query('select pg_terminate_backend($1)', waiting);
  await expect.poll(() => faults(top).queues, { interval: 20 }).not.toBe('none');
  await expect.poll(() => faults(top), { interval: 20 }).toEqual(nothing);
  expect(seen).not.toContainEqual(expect.objectContaining({ figures: expect.not.stringMatching('none') }));
});

test('sources of single panes are asked while these are shown', async () => {
  const { url } = await freshDatabase();
  const top = await openTop(await loadConfig({ databaseUrl: url }, env), { complete: false });
  onTestFinished(() => top.close());
  const names = () => top.snapshot().sources.map(({ name }) => name);
  expect(names()).toEqual(NEEDED);
  top.refresh(100, ['database']);
  await expect.poll(() => top.snapshot().database, { interval: 20 }).not.toBeNull();
  expect(names()).toEqual([...NEEDED, 'database']);
  expect(top.snapshot()).toMatchObject({ machine: null, events: null });
});
