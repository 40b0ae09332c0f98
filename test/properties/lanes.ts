import fc from 'fast-check';
import { runHistory } from './history.ts';
import { type Lane, openLane } from './lane.ts';
import { histories } from './operations.ts';

/** Concurrent histories: one uses the processor while another waits for the server. */
const LANES = 3;

/** Environment variables set both. A failure names the seed of its lane, which repeats it first. */
export const SEED = Number(process.env.FEEDCTL_SEED ?? Date.now() % 2 ** 31);
export const countOf = (usual: number): number => Number(process.env.FEEDCTL_HISTORIES ?? usual);
export const timeoutOf = (count: number): number => 60_000 + count * 1_000;

/** Runs random histories, with the Redis at `redisUrl` if given. Returns their lanes. */
export async function runHistories(count: number, redisUrl?: string): Promise<Lane[]> {
  const lanes = await Promise.all(Array.from({ length: LANES }, () => openLane(redisUrl)));
  await Promise.all(
    lanes.map((lane, i) =>
      fc.assert(
        fc.asyncProperty(histories, async (history) => {
          await runHistory(lane, history);
        }),
        { seed: SEED + i, numRuns: Math.ceil(count / LANES) },
      ),
    ),
  );
  return lanes;
}
