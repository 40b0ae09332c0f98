import type pg from 'pg';
import { expect, onTestFinished, test } from 'vitest';
import { openRedisCache } from '../../../../src/engine/cache/redis/cache.ts';
import { Database } from '../../../../src/engine/database/database.ts';
import { silentLog } from '../../../../src/engine/telemetry/log.ts';
import { freshDatabase } from '../../../support/cluster.ts';
import { rejection } from '../../../support/codes.ts';
import { openProxy } from '../../../support/proxy.ts';
import { redis, startRedis } from '../../../support/redis.ts';
import { loaded } from '../contract.ts';

/** Runs `between` once, after the statement that names a server. */
class Interrupted extends Database {
  between: (() => Promise<unknown>) | undefined;

  override async query<Row extends pg.QueryResultRow>(text: string, values?: unknown[]) {
    const result = await super.query<Row>(text, values);
    if (/with claimed/.test(text)) {
      const { between } = this;
      this.between = undefined;
      await between?.();
    }
    return result;
  }
}

async function opened(db: Database) {
  const server = await startRedis();
  onTestFinished(() => server.stop());
  const cache = await openRedisCache(server.url, db, silentLog);
  onTestFinished(() => cache.close());
  return cache;
}

test.skipIf(!redis.installed())(
  'a server is not used if another process names another one at the same time',
  async () => {
    const { db, url } = await freshDatabase();
    const interrupted = new Interrupted(url);
    onTestFinished(() => interrupted.close());
    const late = await opened(interrupted);
    const other = await opened(db);
    interrupted.between = () => other.state.now();
    expect(await rejection(late.state.now())).toMatchObject({ code: 'CACHE_UNREACHABLE' });
  },
);

test.skipIf(!redis.installed())(
  'a change that reaches a server which others have left invalidates what they hold',
  async () => {
    const { db, url } = await freshDatabase();
    const proxy = await openProxy(url);
    const silent = new Database(proxy.url);
    onTestFinished(() => silent.close());
    const left = await opened(silent);
    const used = await opened(db);
    await left.refill(1, async () => loaded(1));
    expect(await left.get(1)).toBeDefined();
    // Nothing tells the first one of the other server: its last confirmation is trusted for a moment.
    proxy.stall();
    await used.state.now();
    await used.refill(1, async () => loaded(1));
    expect(await used.get(1)).toBeDefined();
    const change = left.forget([1]);
    proxy.open();
    await change;
    expect(await used.get(1)).toBeUndefined();
    expect(await left.get(1)).toBeUndefined();
  },
);
