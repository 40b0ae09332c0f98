import { expect, test } from 'vitest';
import { databaseWatch, ratesBetween } from '../../../../src/engine/monitoring/top/database.ts';
import { diskBytes, machineWatch, networkBytes } from '../../../../src/engine/monitoring/top/machine.ts';
import { freshDatabase } from '../../../support/cluster.ts';

test('the database pane has sessions, rates, partitions, and who waits for whom', async () => {
  const { db } = await freshDatabase();
  const look = databaseWatch();
  const first = await look(db);
  expect(first).toMatchObject({
    commitsPerSecond: null,
    walBytesPerSecond: null,
    blocked: [],
    slowest: null,
  });
  expect(first.sessions).toContainEqual({ state: 'active', count: expect.any(Number) });
  expect(first.partitions.map(({ name }) => name)).toContain('feed_items_after');
  const locked = Promise.withResolvers<number>();
  const hold = Promise.withResolvers<void>();
  const holding = db.transaction(async (session) => {
    const { rows } = await session.query<{ pid: number }>('select pg_backend_pid() as pid');
    await session.query('lock table users in access exclusive mode');
    locked.resolve(rows[0]!.pid);
    await hold.promise;
  });
  const holder = await locked.promise;
  const waiting = db.query('select count(*) from users');
  try {
    await expect
      .poll(async () => (await look(db)).blocked, { interval: 20 })
      .toMatchObject([{ blockedBy: [holder], statement: 'select count(*) from users' }]);
    const { blocked, longest, walBytesPerSecond } = await look(db);
    expect(blocked[0]!.blocker).toBe('idle in transaction: lock table users in access exclusive mode');
    expect(longest.map(({ pid }) => pid)).toContain(holder);
    expect(walBytesPerSecond).toBeGreaterThanOrEqual(0);
  } finally {
    hold.resolve();
    await Promise.all([holding, waiting]);
  }
});

test('counters that went back give no rate, and hits are of the time between two looks', () => {
  const counters = { commits: 100, rollbacks: 0, written: 0, hits: 900, reads: 100, wal: 1_000 };
  const before = { atMs: 0, ...counters };
  const later = { atMs: 2_000, ...counters, commits: 300, hits: 950, reads: 150, wal: 5_000 };
  expect(ratesBetween(before, later)).toMatchObject({
    commitsPerSecond: 100,
    walBytesPerSecond: 2_000,
    cacheHitShare: 0.5,
  });
  expect(ratesBetween(undefined, before)).toMatchObject({ commitsPerSecond: null, cacheHitShare: 0.9 });
  expect(ratesBetween(later, { ...before, atMs: 4_000, wal: null })).toMatchObject({
    commitsPerSecond: null,
    walBytesPerSecond: null,
    cacheHitShare: 0.9,
  });
});

test('disks and networks are counted once: no partitions, no loops, no loopback', async () => {
  const disks = [
    '   8       0 sda 10 0 2 0 20 0 4 0 0 0 0',
    '   8       1 sda1 10 0 2 0 20 0 4 0 0 0 0',
    ' 259       0 nvme0n1 1 0 8 0 1 0 16 0 0 0 0',
    ' 259       1 nvme0n1p1 1 0 8 0 1 0 16 0 0 0 0',
    '   7       0 loop0 1 0 99 0 1 0 99 0 0 0 0',
  ];
  expect(diskBytes(disks.join('\n'))).toEqual([10 * 512, 20 * 512]);
  expect(diskBytes('')).toBeNull();
  const network = [
    'Inter-|   Receive                    |  Transmit',
    ' face |bytes    packets errs drop fifo frame compressed multicast|bytes',
    '    lo: 500 1 0 0 0 0 0 0 500 1 0 0 0 0 0 0',
    '  eth0:70 1 0 0 0 0 0 0 30 1 0 0 0 0 0 0',
  ];
  expect(networkBytes(network.join('\n'))).toEqual([70, 30]);
  const activity = await machineWatch(process.cwd())();
  expect(activity.memoryUsedBytes).toBeLessThan(activity.memoryBytes);
  expect(activity.cpuShare).toBeGreaterThanOrEqual(0);
  expect(activity.cpuShare).toBeLessThanOrEqual(1);
  expect(activity.load).toHaveLength(3);
});
