import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import { Database } from '../../../src/engine/database/database.ts';
import { withoutPassword } from '../../../src/engine/database/url.ts';
import { isTransient } from '../../../src/engine/resilience/classify.ts';
import { emptyDatabase, freshDatabase } from '../../support/cluster.ts';
import { rejection } from '../../support/codes.ts';
import { openProxy } from '../../support/proxy.ts';

const endOthers = (db: Database) =>
  db.query(
    `select pg_terminate_backend(pid) from pg_stat_activity
     where datname = current_database() and pid <> pg_backend_pid()`,
  );

function opened(url: string): Database {
  const db = new Database(url);
  onTestFinished(() => db.close());
  return db;
}

/** A port that accepts connections, counts them and closes them immediately. */
async function rudeServer() {
  let connections = 0;
  const server = createServer((socket) => {
    connections += 1;
    socket.destroy();
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  const { port } = server.address() as { port: number };
  return { url: `postgres://feedctl@127.0.0.1:${port}/feedctl`, connections: () => connections };
}

test('errors say what they mean to the user', async () => {
  const { url } = await emptyDatabase();
  const nowhere = opened('postgres://feedctl:secret@127.0.0.1:1/feedctl');
  const refused = await rejection(nowhere.query('select 1'));
  expect(refused).toMatchObject({ code: 'DATABASE_UNREACHABLE' });
  expect(refused.message).not.toContain('secret');
  expect(await rejection(opened((await rudeServer()).url).query('select 1'))).toMatchObject({
    code: 'DATABASE_UNREACHABLE',
  });
  const misnamed = opened(url.replace(/\/test_\w+/, '/no_such_database'));
  expect(await rejection(misnamed.query('select 1'))).toMatchObject({ code: 'DATABASE_NOT_FOUND' });
  const empty = opened(url);
  expect(await rejection(empty.query('select * from users'))).toMatchObject({ code: 'SCHEMA_MISSING' });
  expect(await rejection(empty.query('select * from bus.messages'))).toMatchObject({
    code: 'SCHEMA_MISSING',
  });
  expect(await rejection(empty.query('select 1 / 0'))).toMatchObject({ code: 'DATABASE_ERROR' });
});

test('a URL is shown without its password', () => {
  expect(withoutPassword('postgres://me:pw@host:5432/db')).toBe('postgres://me:***@host:5432/db');
  expect(withoutPassword('postgres:///db?host=/tmp&password=pw&x=1')).toBe(
    'postgres:///db?host=/tmp&password=***&x=1',
  );
  expect(withoutPassword('postgres://me@host/db')).toBe('postgres://me@host/db');
  expect(withoutPassword('amqp://a:one@x/v, amqps://b:two@y/v')).toBe('amqp://a:***@x/v, amqps://b:***@y/v');
  expect(withoutPassword('redis+sentinel://a:one@x:1,y:2/z?sentinel_password=two&sentinel_tls=true')).toBe(
    'redis+sentinel://a:***@x:1,y:2/z?sentinel_password=***&sentinel_tls=true',
  );
  expect(withoutPassword('amqp://a:not/enc@oded,@x/v')).toBe('amqp://a:***@x/v');
});

test('a transaction is rolled back when its work throws, and a rehearsal always', async () => {
  const { db } = await freshDatabase();
  const insert = (id: number) => `insert into users (id) values (${id})`;
  const users = async () =>
    (await db.query<{ id: number }>('select id from users')).rows.map((row) => row.id);
  const failing = db.transaction(async (session) => {
    await session.query(insert(1));
    throw new Error('no');
  });
  await expect(failing).rejects.toThrow();
  expect(await db.rehearse(async (session) => (await session.query(insert(2))).rowCount)).toBe(1);
  expect(await db.transaction(async (session) => (await session.query(insert(3))).rowCount)).toBe(1);
  expect(await users()).toEqual([3]);
});

test('a pool whose sessions are all ended serves the next query', async () => {
  const { url } = await freshDatabase();
  const [db, other] = [opened(url), opened(url)];
  await Promise.all(Array.from({ length: 5 }, () => db.query('select pg_sleep(0.01)')));
  await endOthers(other);
  await expect
    .poll(() =>
      db.query('select 1').then(
        (result) => result.rowCount,
        () => 0,
      ),
    )
    .toBe(1);
});

test('a listener hears what is notified, and after its session is ended again', async () => {
  const { db, url } = await freshDatabase();
  const heard: string[] = [];
  const states: string[] = [];
  const listener = await opened(url).listen(['one', 'Two'], {
    onNotify: (channel, payload) => heard.push(`${channel} ${payload}`),
    onListening: () => void states.push('listening'),
    onLost: () => states.push('lost'),
  });
  await db.query(`select pg_notify('one', 'a'), pg_notify('Two', 'b'), pg_notify('three', 'c')`);
  await listener.barrier();
  expect(heard).toEqual(['one a', 'Two b']);
  await endOthers(db);
  await expect.poll(() => states).toEqual(['listening', 'lost', 'listening']);
  await db.query(`select pg_notify('one', 'd')`);
  await expect.poll(() => heard.at(-1)).toBe('one d');
  await listener.barrier();
  await listener.close();
});

test('a barrier rejects while the session is being replaced', async () => {
  const { db, url } = await freshDatabase();
  let lost = () => {};
  const gone = new Promise<void>((resolve) => {
    lost = resolve;
  });
  const listener = await opened(url).listen(['one'], { onNotify: () => {}, onLost: () => lost() });
  await endOthers(db);
  await gone;
  expect(await rejection(listener.barrier())).toMatchObject({ code: 'DATABASE_UNREACHABLE' });
});

test('a listener that could not connect at first leaves nothing behind that tries again', async () => {
  const server = await rudeServer();
  const db = opened(server.url);
  expect(await rejection(db.listen(['one'], { onNotify: () => {} }))).toMatchObject({
    code: 'DATABASE_UNREACHABLE',
  });
  const tries = server.connections();
  await sleep(1_000);
  expect(server.connections()).toBe(tries);
});

test('a listener that is closed while it reconnects leaves no session', async () => {
  const { db, url } = await freshDatabase();
  let reconnecting = () => {};
  const again = new Promise<void>((resolve) => {
    reconnecting = resolve;
  });
  let connections = 0;
  const listener = await opened(url).listen(['one'], {
    onNotify: () => {},
    onListening: async (session) => {
      connections += 1;
      if (connections === 1) return;
      reconnecting();
      await session.query('select pg_sleep(0.2)');
    },
  });
  await endOthers(db);
  await again;
  await listener.close();
  const sessions = () =>
    db.query(
      `select 1 from pg_stat_activity
       where datname = current_database() and application_name = 'feedctl listener'`,
    );
  await expect.poll(async () => (await sessions()).rowCount).toBe(0);
});

test('a session whose server says nothing any more is cut off at the deadline, and the next one works', async () => {
  const proxy = await openProxy((await freshDatabase()).url);
  const db = new Database(proxy.url, { deadlineMs: 200, maxSessions: 1 });
  onTestFinished(() => db.close());
  const answer = async () => (await db.query('select 1')).rowCount;
  expect(await answer()).toBe(1);
  proxy.stall();
  expect(await rejection(answer())).toMatchObject({ code: 'TIMED_OUT' });
  proxy.open();
  expect(await answer()).toBe(1);
  proxy.stall();
  const unit = db.transaction((session) => session.query('select 1'));
  expect(await rejection(unit)).toMatchObject({ code: 'TIMED_OUT' });
  proxy.open();
  expect(await answer()).toBe(1);
});

test('a statement, or a wait for a lock, past its limit is timed out by the server', async () => {
  const { url, db } = await freshDatabase();
  const short = new Database(url, { sessionSettings: { statement_timeout: '50', lock_timeout: '20' } });
  onTestFinished(() => short.close());
  expect(await rejection(short.query('select pg_sleep(10)'))).toMatchObject({ code: 'TIMED_OUT' });
  await db.transaction(async (session) => {
    await session.query('lock table users');
    expect(await rejection(short.query('select from users'))).toMatchObject({ code: 'TIMED_OUT' });
  });
});

test('so many calls may wait for a session, and the next is refused to its face', async () => {
  const { url } = await freshDatabase();
  const db = new Database(url, { maxSessions: 1, waiting: 2 });
  onTestFinished(() => db.close());
  await db.query('select 1');
  const gate = Promise.withResolvers<void>();
  const busy = db.withSession(() => gate.promise);
  const waiting = [db.query('select 1'), db.query('select 2')];
  expect(await rejection(db.query('select 3'))).toMatchObject({ code: 'OVERLOADED' });
  gate.resolve();
  await Promise.all([busy, ...waiting]);
  expect((await db.query('select 3')).rowCount).toBe(1);
});

test('a session that the driver gives up itself leaves nothing open', async () => {
  // The server asks for a password, and the URL has none.
  const says = (code: number, text: string) =>
    Buffer.concat([Buffer.from([0x52, 0, 0, 0, 8 + text.length, 0, 0, 0, code]), Buffer.from(text)]);
  const closed = Promise.withResolvers<void>();
  const server = createServer((socket) => {
    socket.once('data', () => {
      socket.write(says(10, 'SCRAM-SHA-256\0\0'));
      socket.once('data', () => socket.write(says(11, 'r=nonce,s=c2FsdA==,i=4096')));
    });
    socket.on('error', () => {}).once('close', () => closed.resolve());
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  onTestFinished(() => void server.close());
  const db = new Database(`postgres://me@127.0.0.1:${(server.address() as AddressInfo).port}/db`);
  onTestFinished(() => db.close());
  expect(await rejection(db.ping())).toMatchObject({ code: 'DATABASE_REFUSED' });
  await closed.promise;
});

test('a listener whose network says nothing any more is replaced, asked or not', {
  timeout: 40_000,
}, async () => {
  const proxy = await openProxy((await freshDatabase()).url);
  const db = opened(proxy.url);
  const heard: string[] = [];
  let losses = 0;
  const listener = await db.listen(['news'], {
    onNotify: (_, payload) => heard.push(payload),
    onLost: () => {
      losses += 1;
    },
  });
  const heardAgain = (text: string) =>
    expect
      .poll(
        async () => {
          await db.query(`select pg_notify('news', $1)`, [text]);
          return heard.includes(text);
        },
        { timeout: 20_000 },
      )
      .toBe(true);
  proxy.strand();
  await expect(listener.barrier()).rejects.toThrow('terminated');
  await heardAgain('after being asked');
  proxy.strand();
  await expect.poll(() => losses, { timeout: 20_000 }).toBe(2);
});

test('a transaction that was left open is ended by the server, and what it locked is free', async () => {
  const { db } = await freshDatabase();
  const left = new Database(db.url, { sessionSettings: { idle_in_transaction_session_timeout: '200' } });
  onTestFinished(() => left.close());
  const stopped = Promise.withResolvers<void>();
  const transaction = left.transaction(async (session) => {
    await session.query(`select pg_advisory_xact_lock(7)`);
    await stopped.promise;
    await session.query('select 1');
  });
  await expect
    .poll(
      async () => (await db.query(`select from pg_locks where locktype = 'advisory' and objid = 7`)).rowCount,
    )
    .toBe(1);
  await db.transaction((session) => session.query('select pg_advisory_xact_lock(7)'));
  stopped.resolve();
  expect(isTransient(await rejection(transaction))).toBe(true);
});
