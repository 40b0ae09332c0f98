import { expect, onTestFinished, test } from 'vitest';
import type { Database } from '../../../src/engine/database/database.ts';
import { timeOfId } from '../../../src/engine/model/ids.ts';
import { DatabaseClock, databaseNow } from '../../../src/engine/store/databaseClock.ts';
import { openIdSource } from '../../../src/engine/store/idLeases.ts';
import { freshDatabase } from '../../support/cluster.ts';
import { rejection } from '../../support/codes.ts';

const LEASES = 63;
const nodeOf = (id: number) => Math.floor(id / 64) % 64;

function source(db: Database, clock = new DatabaseClock()) {
  const ids = openIdSource(db, { clock });
  onTestFinished(() => ids.release());
  return ids;
}

test('sources that live at the same time have numbers of their own', async () => {
  const { db } = await freshDatabase();
  const sources = Array.from({ length: 20 }, () => source(db));
  const taken = await Promise.all(sources.map((ids) => ids.take(200)));
  expect(new Set(taken.flat()).size).toBe(20 * 200);
  expect(new Set(taken.map((ids) => nodeOf(ids[0]!))).size).toBe(20);
});

test('takers of one source get ids of their own, each rising', async () => {
  const { db } = await freshDatabase();
  const ids = source(db);
  const taken = await Promise.all(Array.from({ length: 10 }, () => ids.take(500)));
  expect(new Set(taken.flat()).size).toBe(5_000);
  for (const list of taken) expect(list).toEqual([...list].sort((a, b) => a - b));
});

test('more ids than the clock allows are waited for', async () => {
  const { db } = await freshDatabase();
  const clock = new DatabaseClock();
  const taken = await source(db, clock).take(10_000);
  expect(new Set(taken).size).toBe(10_000);
  // The source knows the clock of the database up to half a round trip, which is long on a busy machine.
  expect(timeOfId(taken.at(-1)!) - clock.now()).toBeLessThanOrEqual(50);
});

test('a number that was released and is leased again never repeats an id', async () => {
  const { db } = await freshDatabase();
  await db.query('delete from node_leases where node > 0');
  const seen: number[] = [];
  for (let i = 0; i < 5; i += 1) {
    const ids = openIdSource(db);
    // More ids than the clock allows, so the next owner starts ahead of the clock.
    seen.push(...(await ids.take(3_500)));
    await ids.release();
  }
  expect(new Set(seen).size).toBe(5 * 3_500);
  expect(seen).toEqual([...seen].sort((a, b) => a - b));
});

test('an owner that minted nothing leaves what earlier owners reserved', async () => {
  const { db } = await freshDatabase();
  const ahead = Date.now() + 900;
  await db.query('delete from node_leases where node > 0');
  await db.query('update node_leases set reserved_until_ms = $1', [ahead]);
  const ids = openIdSource(db);
  const taking = ids.next().catch(() => undefined);
  await expect
    .poll(async () => (await db.query('select 1 from node_leases where owner is not null')).rowCount)
    .toBe(1);
  await ids.release();
  await taking;
  const { rows } = await db.query<{ until: number }>('select reserved_until_ms as until from node_leases');
  expect(rows[0]!.until).toBeGreaterThanOrEqual(ahead);
});

test('without a free number no id is minted', async () => {
  const { db } = await freshDatabase();
  await db.query(`update node_leases set owner = gen_random_uuid(), expires_at = now() + interval '1 hour'`);
  expect(await rejection(source(db).next())).toMatchObject({ code: 'NODE_NUMBERS_EXHAUSTED' });
});

test('a number is to be had as soon as one is released', async () => {
  const { db } = await freshDatabase();
  const sources = Array.from({ length: LEASES }, () => openIdSource(db));
  const ids = await Promise.all(sources.map((each) => each.next()));
  expect(new Set(ids.map(nodeOf)).size).toBe(LEASES);
  const late = source(db).next();
  await sources[7]!.release();
  expect(nodeOf(await late)).toBe(nodeOf(ids[7]!));
  await Promise.all(sources.map((each) => each.release()));
});

test('a released source mints nothing more', async () => {
  const { db } = await freshDatabase();
  const ids = openIdSource(db);
  await ids.next();
  await ids.release();
  await expect(ids.next()).rejects.toThrow(/released/);
});

/** A clock of the database that a test sets. */
class SetClock extends DatabaseClock {
  aheadMs = 0;
  stopped: number | undefined;

  override now(): number {
    return (this.stopped ?? super.now()) + this.aheadMs;
  }
}

/** A source with a clock that a test sets. */
async function clocked() {
  const { db } = await freshDatabase();
  const clock = new SetClock();
  const ids = openIdSource(db, { clock });
  onTestFinished(() => ids.release());
  return { db, clock, ids };
}

test('ids have the time of the database, whatever the clock of this machine says', async () => {
  const { db } = await freshDatabase();
  for (const aheadMs of [3_600_000, -3_600_000, 0]) {
    const machine = { wall: () => Date.now() + aheadMs, monotonic: () => performance.now() };
    const clock = new DatabaseClock({ machine, limitMs: Number.POSITIVE_INFINITY });
    const ids = openIdSource(db, { clock });
    const before = await databaseNow(db);
    const startedAt = performance.now();
    const made = timeOfId(await ids.next());
    const after = await databaseNow(db);
    // The clock is measured to half a round trip, and the round trip is within this time.
    const errorMs = performance.now() - startedAt + 1;
    await ids.release();
    expect(Math.abs(clock.offsetMs - aheadMs)).toBeLessThan(errorMs);
    expect(made).toBeGreaterThan(before - errorMs);
    expect(made).toBeLessThan(after + errorMs);
  }
});

test('a clock that differs from the database’s by more than five seconds ends the minting', async () => {
  const { db } = await freshDatabase();
  const machine = { wall: () => Date.now() - 3_600_000, monotonic: () => performance.now() };
  const ids = openIdSource(db, { clock: new DatabaseClock({ machine }) });
  onTestFinished(() => ids.release());
  expect(await rejection(ids.next())).toMatchObject({
    code: 'CLOCK_OFF',
    message: expect.stringMatching(/3600 s behind the database's/),
    retryAfterSeconds: 10,
  });
  expect(() => ids.checkClock()).toThrow(/behind the database's/);
});

test('a machine whose clock is set mints rising ids of the right time', async () => {
  const { db } = await freshDatabase();
  let aheadMs = 0;
  const machine = { wall: () => Date.now() + aheadMs, monotonic: () => performance.now() };
  const ids = openIdSource(db, { clock: new DatabaseClock({ machine }) });
  onTestFinished(() => ids.release());
  const taken: number[] = [];
  for (aheadMs of [0, -3_000, 4_000, -45_000, 0, 1_000]) {
    if (aheadMs === -45_000) expect(await rejection(ids.next())).toMatchObject({ code: 'CLOCK_OFF' });
    else taken.push(...(await ids.take(200)));
  }
  expect(taken).toEqual([...new Set(taken)].sort((a, b) => a - b));
});

test('a clock that goes back far ends the wait at once, and ids resume when it has caught up', async () => {
  const { clock, ids } = await clocked();
  const before = await ids.next();
  clock.aheadMs = -45_000;
  expect(await rejection(ids.next())).toMatchObject({
    code: 'CLOCK_BEHIND',
    message: expect.stringContaining('45 s behind'),
    retryAfterSeconds: 45,
  });
  expect(() => ids.checkClock()).toThrow(/gone back/);
  clock.aheadMs = 0;
  ids.checkClock();
  expect(await ids.next()).toBeGreaterThan(before);
});

test('a clock that goes back a little is waited for', async () => {
  const { clock, ids } = await clocked();
  const before = await ids.next();
  clock.aheadMs = -500;
  expect(await ids.next()).toBeGreaterThan(before);
});

test('a clock that stands still ends the wait', async () => {
  const { clock, ids } = await clocked();
  clock.stopped = Date.now();
  // 64 ids for each of the 50 ms that they may be ahead, and no more.
  expect(await rejection(ids.take(10_000))).toMatchObject({ code: 'CLOCK_BEHIND' });
});

test('a process that starts with the database’s clock behind every free number says so', async () => {
  const { db, ids } = await clocked();
  await db.query('update node_leases set reserved_until_ms = $1', [Date.now() + 3_600_000]);
  expect(await rejection(ids.next())).toMatchObject({
    code: 'CLOCK_BEHIND',
    message: expect.stringMatching(/3\d{3} s behind/),
  });
});

test('a number that another history of the database does not know is given up before the next id', async () => {
  const { db } = await freshDatabase();
  await db.query('delete from node_leases where node > 1');
  const ids = source(db);
  const before = await ids.next();
  // A restore to the time before the lease: the number is free, and another process takes it.
  await db.query(`update node_leases set owner = null, expires_at = '-infinity', reserved_until_ms = 0`);
  await db.query(`update node_leases set expires_at = 'infinity' where node <> $1`, [nodeOf(before)]);
  const other = source(db);
  expect(nodeOf(await other.next())).toBe(nodeOf(before));
  await db.query(`update node_leases set expires_at = '-infinity' where node <> $1`, [nodeOf(before)]);
  ids.confirmLease();
  expect(nodeOf(await ids.next())).not.toBe(nodeOf(before));
});

test('no id is minted until the database has answered that it has the number in its other history', async () => {
  const { db } = await freshDatabase();
  const ids = source(db);
  const before = await ids.next();
  await db.query('alter table node_leases rename to away');
  ids.confirmLease();
  expect(await rejection(ids.next())).toMatchObject({ code: 'SCHEMA_MISSING' });
  await db.query('alter table away rename to node_leases');
  // Another process has taken the number meanwhile.
  await db.query('update node_leases set owner = gen_random_uuid() where node = $1', [nodeOf(before)]);
  expect(nodeOf(await ids.next())).not.toBe(nodeOf(before));
});
