import { randomUUID } from 'node:crypto';
import { expect, test } from 'vitest';
import { cacheStats } from '../../../../src/engine/gateway/operator/cacheStats.ts';
import { registerGateway } from '../../../../src/engine/live/presence.ts';
import { type CacheCounters, ProcessStats } from '../../../../src/engine/stats/process.ts';
import { saveStats } from '../../../../src/engine/stats/table.ts';
import { freshDatabase } from '../../../support/cluster.ts';

test('the counts of a cache are those that gateways reported; the others are named', async () => {
  const { db } = await freshDatabase();
  const [reporting, older, silent] = [randomUUID(), randomUUID(), randomUUID()];
  const urlOf = (id: string) => `http://${id}.example:7070`;
  for (const id of [reporting, older, silent]) await registerGateway(db, { id, url: urlOf(id) });
  const save = (gateway: string, cache: CacheCounters) =>
    saveStats(
      db,
      { id: randomUUID(), host: 'h', pid: 1 },
      { worker: null, gateway, sockets: 0, memoryBytes: 5e7, cpu: 0 },
      { figures: { ...new ProcessStats().report(), cache }, errors: [] },
    );
  await save(reporting, { kind: 'memory', ready: true, hits: 6, misses: 1, refills: 3, failures: 2 });
  await save(older, { kind: 'memory', ready: true, hits: 1, misses: 2 });
  const report = await cacheStats(db, undefined);
  expect(report).toMatchObject({ kind: 'memory', ready: true, hitRate: 0.7 });
  expect(new Set(report.gateways)).toEqual(
    new Set([
      { gatewayId: reporting, url: urlOf(reporting), hits: 6, misses: 1, refills: 3, failures: 2 },
      { gatewayId: older, url: urlOf(older), hits: 1, misses: 2, refills: 0, failures: 0 },
    ]),
  );
  const reason = `the gateway at ${urlOf(silent)} has reported no statistics for 15 s`;
  expect(report.unreachable).toEqual([{ gatewayId: silent, url: urlOf(silent), reason }]);
});
