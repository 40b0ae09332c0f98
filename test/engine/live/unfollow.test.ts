import { expect, test } from 'vitest';
import { liveQueue } from '../../../src/engine/live/notifier.ts';
import { firstIdAt } from '../../../src/engine/model/ids.ts';
import { encodeLive } from '../../../src/engine/model/messages.ts';
import { follow, unfollow } from '../../../src/engine/social/follows.ts';
import { createPost } from '../../../src/engine/social/posts.ts';
import { followedAuthor, testClient } from '../../support/gateways.ts';

test('a check from before an unfollow counts for no socket of that user, one that was opened since neither', async () => {
  const { cluster, gateway, author, reader, client } = await followedAuthor();
  const { db, bus } = cluster;
  const [other] = (await cluster.users(1)) as [number];
  await follow(cluster, { followerId: reader, followeeId: other });
  await cluster.settled();
  await client.open(gateway.url);
  const again = await testClient(cluster, reader);
  const postId = firstIdAt(Date.now());
  await db.query(`insert into posts (id, author_id, body, created_at) values ($1, $2, 'a post', now())`, [
    postId,
    author,
  ]);
  await db.transaction(async (session) => {
    // The gateway finds that the reader follows, and waits for the text.
    await session.query('lock table posts in access exclusive mode');
    const body = encodeLive({ importId: 0, committedAt: Date.now() }, [
      { userId: reader, authorId: author, postId },
    ]);
    await bus.publish([{ queue: liveQueue(gateway.id), body }]);
    await expect
      .poll(
        async () =>
          (await db.query(`select 1 from pg_locks where relation = 'posts'::regclass and not granted`))
            .rowCount,
        {
          interval: 5,
        },
      )
      .toBe(1);
    await client.close();
    await unfollow(cluster, { followerId: reader, followeeId: author });
    await again.open(gateway.url);
  });
  const { id } = await createPost(cluster, other, 'of somebody else');
  await expect.poll(() => again.posts).toContain(id);
  expect([client.posts, again.posts]).toEqual([[], [id]]);
});
