import { setTimeout as sleep } from 'node:timers/promises';
import { signToken } from '../../src/engine/gateway/tokens.ts';
import { FeedClient } from '../support/feedClient.ts';
import type { ChaosCluster } from './cluster.ts';
import { type History, keyOf } from './history.ts';

const POLL_MS = 25;
const MAX_MS = 600_000;

/**
 * Returns the milliseconds until every gateway opens a new session and sends it a post that was begun
 * after the call. `Infinity`: not within ten minutes.
 */
export async function recoveryOf(cluster: ChaosCluster, history: History): Promise<number> {
  const since = performance.now();
  const first = history.operations.length;
  const isOver = () => performance.now() - since > MAX_MS;
  const isFresh = (text: unknown): boolean =>
    history.operations.slice(first).some((one) => one.do === 'create' && one.key === keyOf(String(text)));
  // The user who follows the most authors gets a post soonest.
  const reader = mostFollowing(history);
  const token = await signToken(cluster.db, reader);
  const recovered = await Promise.all(
    cluster.gateways.map(async ({ url }) => {
      const client = new FeedClient(reader, token);
      try {
        await Promise.race([client.stay(() => [url]), sleep(MAX_MS)]);
        while (![...client.texts.values()].some(isFresh) && !isOver()) await sleep(POLL_MS);
        return !isOver();
      } finally {
        await client.stop();
      }
    }),
  );
  return recovered.every(Boolean) ? performance.now() - since : Number.POSITIVE_INFINITY;
}

function mostFollowing({ users, followsBefore }: History): number {
  const count = (user: number) => followsBefore.filter(([follower]) => follower === user).length;
  return users.reduce((best, user) => (count(user) > count(best) ? user : best));
}
