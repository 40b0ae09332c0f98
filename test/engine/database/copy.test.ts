import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CopyRows, copyIn, copyOut } from '../../../src/engine/database/copy.ts';
import { isDuplicate } from '../../../src/engine/database/errors.ts';
import type { Session } from '../../../src/engine/database/types.ts';
import { readId } from '../../../src/engine/model/messages.ts';
import { freshDatabase } from '../../support/cluster.ts';

const series = (last: number) =>
  `copy (select generate_series(1, ${last})::bigint) to stdout (format binary)`;
/** A row of one bigint: field count, length, value. */
const value = (bytes: Buffer, at: number) => readId(bytes, at + 6);
const upTo = (last: number) => Array.from({ length: last }, (_, i) => i + 1);

async function read(session: Session, statement: string): Promise<number[]> {
  const values: number[] = [];
  await copyOut(session, statement, (bytes, at) => void values.push(value(bytes, at)) as undefined);
  return values;
}

const stillUsable = async (session: Session) =>
  expect((await session.query('select 7 as seven')).rows).toEqual([{ seven: 7 }]);

test('copyOut hands over every row, of one, of none and of very many', async () => {
  const { db } = await freshDatabase();
  await db.withSession(async (session) => {
    for (const rows of [1, 0, 2, 200_000]) {
      expect(await read(session, series(rows))).toEqual(upTo(rows));
      await stillUsable(session);
    }
  });
});

test('copyOut hands over rows that are bigger than the socket’s buffer', async () => {
  const { db } = await freshDatabase();
  await db.withSession(async (session) => {
    const lengths: number[] = [];
    const statement = `
      copy (select repeat('x', n * 50000) from generate_series(0, 20) n) to stdout (format binary)`;
    await copyOut(session, statement, (_bytes, _at, length) => void lengths.push(length - 6) as undefined);
    expect(lengths).toEqual(Array.from({ length: 21 }, (_, n) => n * 50_000));
  });
});

test('copyOut waits while a promise is pending, and no row comes meanwhile', async () => {
  const { db } = await freshDatabase();
  await db.withSession(async (session) => {
    const values: number[] = [];
    let waiting = false;
    let overlapped = false;
    await copyOut(session, series(50_000), (bytes, at) => {
      overlapped ||= waiting;
      values.push(value(bytes, at));
      if (values.length % 997 !== 0) return undefined;
      waiting = true;
      return turn().then(() => {
        waiting = false;
      });
    });
    expect(overlapped).toBe(false);
    expect(values).toEqual(upTo(50_000));
    await stillUsable(session);
  });
});

test.each([
  [
    'throws',
    () => {
      throw new Error('enough');
    },
  ],
  ['rejects', () => Promise.reject(new Error('enough'))],
])('a handler that %s ends the copy and leaves the session usable', async (_, fail) => {
  const { db } = await freshDatabase();
  await db.withSession(async (session) => {
    let rows = 0;
    const copy = copyOut(session, series(50_000), () => {
      rows += 1;
      return rows === 1_000 ? fail() : undefined;
    });
    await expect(copy).rejects.toThrow('enough');
    expect(rows).toBe(1_000);
    await stillUsable(session);
    expect(await read(session, series(3))).toEqual([1, 2, 3]);
  });
});

test('an error of the server comes through, before the first row and after many', async () => {
  const { db } = await freshDatabase();
  await db.withSession(async (session) => {
    await expect(read(session, 'copy nothing to stdout (format binary)')).rejects.toMatchObject({
      code: '42P01',
    });
    await stillUsable(session);
    const divides =
      'copy (select (1 / (n - 40000))::bigint from generate_series(1, 50000) n) to stdout (format binary)';
    await expect(read(session, divides)).rejects.toMatchObject({ code: '22012' });
    await stillUsable(session);
  });
});

test('a notice between rows costs no row', async () => {
  const { db } = await freshDatabase();
  await db.query(`
    create function noisy(n bigint) returns bigint language plpgsql as $$
    begin
      if n % 100 = 0 then raise notice 'at %', n; end if;
      return n;
    end $$`);
  await db.withSession(async (session) => {
    const statement = 'copy (select noisy(n) from generate_series(1, 5000) n) to stdout (format binary)';
    expect(await read(session, statement)).toEqual(upTo(5_000));
    await stillUsable(session);
  });
});

test('a session that is ended while rows come rejects', async () => {
  const { db } = await freshDatabase();
  const copy = db.withSession(async (session) => {
    const { rows } = await session.query<{ pid: number }>('select pg_backend_pid() as pid');
    let first = true;
    await copyOut(session, series(5_000_000), () => {
      if (!first) return undefined;
      first = false;
      return db.query('select pg_terminate_backend($1)', [rows[0]!.pid]).then(() => {});
    });
  });
  await expect(copy).rejects.toMatchObject({ code: 'DATABASE_UNREACHABLE' });
});

test('what CopyRows writes is what the server reads', async () => {
  const { db } = await freshDatabase();
  await db.query('create table copied (place serial, nth bigint, body text, at timestamptz, data jsonb)');
  const text = fc.string({ unit: 'grapheme', maxLength: 200 }).filter((body) => !body.includes('\0'));
  const time = fc.integer({ min: Date.UTC(1970, 0, 1), max: Date.UTC(2090, 0, 1) });
  const samples = fc.sample(fc.tuple(fc.maxSafeNat(), text, time), 500);
  const rows = new CopyRows(16);
  for (const [id, body, ms] of samples) rows.row(4).bigint(id).text(body).timestamp(ms).jsonb({ body });
  expect(rows.count).toBe(500);
  await db.withSession((session) =>
    copyIn(session, 'copy copied (nth, body, at, data) from stdin (format binary)', [rows.bytes]),
  );
  const stored = await db.query<{ nth: number; body: string; at: Date; data: unknown }>(
    'select nth, body, at, data from copied order by place',
  );
  expect(stored.rows).toEqual(
    samples.map(([id, body, ms]) => ({ nth: id, body, at: new Date(ms), data: { body } })),
  );
});

test('copyIn rejects with the server’s error', async () => {
  const { db } = await freshDatabase();
  await db.withSession(async (session) => {
    const statement = 'copy celebrities from stdin (format binary)';
    const row = () => new CopyRows().row(2).bigint(1).text('pull').bytes;
    const refused = await copyIn(session, statement, [row(), row()]).catch((error) => error);
    expect(isDuplicate(refused)).toBe(true);
    await stillUsable(session);
    await copyIn(session, statement, [row()]);
    await copyIn(session, statement, []);
  });
});
