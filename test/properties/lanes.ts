import fc from 'fast-check';
import { runHistory } from './history.ts';
import { type Lane, openLane } from './lane.ts';
import { histories } from './operations.ts';

/** Histories side by side: while one waits for the server, another has the processor. */
const LANES = 3;

/** Both may be set from outside. A failure names the seed of its lane: with that one it comes first. */
export const SEED = Number(process.env.FEEDCTL_SEED ?? Date.now() % 2 ** 31);
export const countOf = (usual: number): number => Number(process.env.FEEDCTL_HISTORIES ?? usual);
export const timeoutOf = (count: number): number => 60_000 + count * 1_000;

/** Runs so many random histories, over Redis where one is given. Returns the lanes they ran in. */
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
