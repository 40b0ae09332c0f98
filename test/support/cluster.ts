import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { inject, onTestFinished } from 'vitest';
import type { Bus } from '../../src/engine/bus/bus.ts';
import { fanOutDrained } from '../../src/engine/bus/drained.ts';
import { LocalBus } from '../../src/engine/bus/local/bus.ts';
import type { FeedChanges } from '../../src/engine/cache/changes.ts';
import { notifiedChanges } from '../../src/engine/cache/invalidation.ts';
import { Database } from '../../src/engine/database/database.ts';
import { startWorker } from '../../src/engine/fanout/worker.ts';
import { openReadiness, type Readiness } from '../../src/engine/fleet/readiness.ts';
import { Identity } from '../../src/engine/identity/identity.ts';
import { openUnfollows } from '../../src/engine/live/unfollows.ts';
import type { SocialContext } from '../../src/engine/social/context.ts';
import { createUser } from '../../src/engine/social/users.ts';
import { DatabaseClock } from '../../src/engine/store/databaseClock.ts';
import { DispatchMarks } from '../../src/engine/store/dispatchMarks.ts';
import { openIdSource } from '../../src/engine/store/idLeases.ts';
import { silentLog } from '../../src/engine/telemetry/log.ts';
import { dropCitusDatabase, freshCitusDatabase } from './citus.ts';
import { findServer } from './server.ts';

/** Makes a migrated database for one test, dropped if the test passes and kept if it fails. */
export async function freshDatabase(): Promise<{ url: string; db: Database }> {
  // Runs the whole suite on Citus if the variable is set.
  if (process.env.FEEDCTL_TEST_STORE === 'citus') return citusDatabase((await findServer('citus'))!);
  return plainDatabase();
}

/** Makes a migrated database on plain PostgreSQL, also if the suite runs on Citus. */
export const plainDatabase = (): Promise<{ url: string; db: Database }> => newDatabase('feedctl');

/** Makes a migrated database on Citus. */
export async function citusDatabase(server: string): Promise<{ url: string; db: Database }> {
  const name = `test_${randomBytes(6).toString('hex')}`;
  const url = await freshCitusDatabase(server, name);
  const db = new Database(url);
  onTestFinished(async ({ task }) => {
    await db.close();
    if (task.result?.state === 'pass') await dropCitusDatabase(server, name);
  });
  return { url, db };
}

/** Makes a database without a schema. */
export const emptyDatabase = (): Promise<{ url: string; db: Database }> => newDatabase('template0');

async function newDatabase(template: string): Promise<{ url: string; db: Database }> {
  const serverUrl = inject('serverUrl');
  const name = `test_${randomBytes(6).toString('hex')}`;
  await onServer(`create database ${name} template ${template}`);
  const url = serverUrl.replace('/feedctl?', `/${name}?`);
  const db = new Database(url);
  onTestFinished(async ({ task }) => {
    await db.close();
    if (task.result?.state === 'pass') await onServer(`drop database ${name} with (force)`);
  });
  return { url, db };
}

async function onServer(statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: inject('serverUrl').replace('/feedctl?', '/postgres?') });
  await client.connect();
  try {
    await client.query(statement);
  } finally {
    await client.end();
  }
}

export interface TestCluster extends SocialContext {
  readonly url: string;
  readonly bus: Bus;
  readonly identity: Identity;
  readonly clock: DatabaseClock;
  readonly readiness: Readiness;
  /** Starts a worker that is stopped when the test ends. */
  startWorker(): Promise<Awaited<ReturnType<typeof startWorker>>>;
  users(count: number): Promise<number[]>;
  settled(): Promise<void>;
}

/** Opens a cluster with a database, a bus and ids, without roles. */
export async function testCluster(
  openChanges: (db: Database) => Promise<FeedChanges> = async () => notifiedChanges,
  database = freshDatabase(),
): Promise<TestCluster> {
  const { url, db } = await database;
  const bus = new LocalBus(url);
  onTestFinished(() => bus.close());
  const clock = new DatabaseClock();
  const ids = openIdSource(db, { clock });
  onTestFinished(() => ids.release());
  const unfollows = openUnfollows(db);
  onTestFinished(() => unfollows.close());
  const identity = await Identity.open(db);
  const readiness = openReadiness({ db, bus, ids, identity, clock });
  onTestFinished(() => readiness.close());
  const context = {
    db,
    identity,
    readiness,
    bus,
    clock,
    ids,
    marks: new DispatchMarks(db),
    unfollows,
    changes: await openChanges(db),
    log: silentLog,
  };
  return {
    ...context,
    url,
    async startWorker() {
      const worker = await startWorker({ ...context, version: 'test' });
      onTestFinished(() => worker.stop(5_000));
      return worker;
    },
    users: (count) =>
      Promise.all(Array.from({ length: count }, async () => (await createUser(context, {})).id)),
    settled: () => fanOutDrained(context),
  };
}
