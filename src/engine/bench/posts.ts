import type { PublishWithin } from '../fanout/dispatcher.ts';
import type { EventRef } from '../model/event.ts';
import { importPosts } from '../store/posts.ts';
import type { BenchCluster } from './benchCluster.ts';

const POSTS_A_BATCH = 4_000;

/**
 * Commits a post of each of the authors, in this order. Returns their events. Without `publish` they are not
 * dispatched, but count as dispatched, so that the sweeper leaves them.
 */
export async function makePosts(
  { cluster }: BenchCluster,
  authors: readonly number[],
  publish: PublishWithin = async () => {},
): Promise<EventRef[]> {
  const events: EventRef[] = [];
  for (let from = 0; from < authors.length; from += POSTS_A_BATCH) {
    const part = authors.slice(from, from + POSTS_A_BATCH);
    const ids = await cluster.ids.take(part.length);
    const eventIds = await cluster.ids.take(part.length);
    const createdAtMs = Date.now();
    const rows = part.map((authorId, i) => {
      return { id: ids[i]!, authorId, body: 'a post of the benchmark', createdAtMs, eventId: eventIds[i]! };
    });
    events.push(...(await importPosts(cluster.db, rows, { publish })));
  }
  return events;
}
