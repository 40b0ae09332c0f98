import { describe, expect, test } from 'vitest';
import { findServer } from '../support/server.ts';
import { openChaosCluster } from './cluster.ts';
import { FAULTS } from './faults/index.ts';
import { SMALL } from './options.ts';
import { roundLine } from './report.ts';
import { runRound } from './round.ts';

/** One of each part. `npm run chaos` runs all faults, on more servers. */
const SHORT = [
  'killed-before-publish',
  'worker-killed',
  'broker-killed',
  'database-failed-over',
  'redis-stopped',
];
const SEED = Number(process.env.FEEDCTL_SEED ?? Date.now() % 1_000_000);
const PACE_MS = 800;

const missing = !(await findServer('rabbitmq')) || !(await findServer('redis'));

describe.skipIf(missing)('a cluster on RabbitMQ and Redis', () => {
  test(`nothing is lost when a part of it fails (FEEDCTL_SEED=${SEED})`, { timeout: 1_800_000 }, async () => {
    const cluster = await openChaosCluster(SMALL);
    for (const [i, name] of SHORT.entries()) {
      const fault = FAULTS.find((one) => one.name === name)!;
      const result = await runRound(cluster, fault, { seed: SEED + i, round: i + 1, paceMs: PACE_MS });
      expect(result.findings, roundLine(result)).toEqual([]);
      expect(result.unexpectedEnds).toEqual([]);
      expect(result.recoveryMs).toBeLessThan(Number.POSITIVE_INFINITY);
      expect(result.frames).toBeGreaterThan(0);
    }
  });
});
