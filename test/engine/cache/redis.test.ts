import { describe, expect, onTestFinished, test } from 'vitest';
import { openRedisCache } from '../../../src/engine/cache/redis/cache.ts';
import { silentLog } from '../../../src/engine/telemetry/log.ts';
import { freshDatabase } from '../../support/cluster.ts';
import { findServer } from '../../support/server.ts';
import { cacheContract, loaded } from './contract.ts';

const url = await findServer('redis');

async function open() {
  const { db } = await freshDatabase();
  const cache = await openRedisCache(url!, db, silentLog);
  onTestFinished(() => cache.close());
  return { cache, db };
}

describe.skipIf(!url)('with a Redis', () => {
  cacheContract('redis', open);

  test('what one process keeps another one reads, and forgets for both', async () => {
    const { cache, db } = await open();
    const other = await openRedisCache(url!, db, silentLog);
    onTestFinished(() => other.close());
    await cache.refill(1, async () => loaded(2, 1));
    expect(await other.get(1)).toMatchObject({ entries: [{ postId: 2 }, { postId: 1 }] });
    await other.forget([1]);
    expect(await cache.get(1)).toBeUndefined();
  });
});
