import { expect, test } from 'vitest';
import { liveQueue } from '../../../src/engine/live/notifier.ts';
import { encodeLive } from '../../../src/engine/model/messages.ts';
import { createPost } from '../../../src/engine/social/posts.ts';
import { followedAuthor, testClient, UNLIMITED } from '../../support/gateways.ts';
import { RawSocket } from '../../support/rawSocket.ts';
import { served } from './served.ts';

test('a reader of the database learns no password and no ticket, and what is stored opens nothing', async () => {
  const { cluster, ask, url } = await served({ limits: UNLIMITED });
  const password = 'correct horse battery staple';
  const person = { first_name: 'a', second_name: 'b', password };
  const { user_id: id } = (await ask('POST', '/user/register', { body: person })).body;
  const login = (text: string) => ask('POST', '/login', { body: { id, password: text } });
  const { token } = (await login(password)).body;
  const { ticket } = (await ask('POST', '/ticket', { token })).body;
  const { rows } = await cluster.db.query<{ name: string }>(
    `select quote_ident(tablename) as name from pg_tables where schemaname = 'public'`,
  );
  const contents = await Promise.all(
    rows.map(async ({ name }) =>
      (await cluster.db.query<{ text: string }>(`select t::text as text from ${name} t`)).rows
        .map(({ text }) => text)
        .join('\n'),
    ),
  );
  const all = contents.join('\n');
  expect(all, 'the table of users was read').toContain(id);
  for (const secret of [password, ticket, token, Buffer.from(ticket).toString('hex')])
    expect(all.includes(secret), secret).toBe(false);
  const stored = await cluster.db.query<{ hash: string; ticket: string }>(
    `select u.password_hash as hash, encode(t.hash, 'base64') as ticket
     from users u, tickets t where u.id = $1`,
    [id],
  );
  expect(stored.rowCount).toBe(1);
  expect((await login(stored.rows[0]!.hash)).status).toBe(401);
  const query = `ticket=${encodeURIComponent(stored.rows[0]!.ticket)}`;
  expect(await RawSocket.open(url, query)).toMatchObject({ status: 401 });
  expect(await RawSocket.open(url, `ticket=${ticket}`)).toMatchObject({ status: 101 });
  expect((await login(password)).status).toBe(200);
});

test('a forged or malformed message at the broker shows no post to a stranger, and others arrive', async () => {
  const { cluster, gateway, author, reader, client } = await followedAuthor();
  const [stranger] = (await cluster.users(1)) as [number];
  const outsider = await testClient(cluster, stranger);
  await Promise.all([client.open(gateway.url), outsider.open(gateway.url)]);
  const { id } = await createPost(cluster, author, 'for followers');
  await expect.poll(() => client.posts).toEqual([id]);
  const own = await createPost(cluster, stranger, 'a post that the reader does not follow');
  const live = (...records: { userId: number; authorId: number; postId: number }[]) => ({
    queue: liveQueue(gateway.id),
    body: encodeLive({ importId: 0, committedAt: Date.now() }, records),
  });
  await cluster.bus.publish([
    live({ userId: stranger, authorId: author, postId: id }),
    live({ userId: stranger, authorId: stranger, postId: id }),
    live({ userId: reader, authorId: stranger, postId: own.id }),
    live({ userId: reader, authorId: author, postId: own.id }),
    live({ userId: reader, authorId: author, postId: id + 1 }),
    ...(['events', 'rows.live', liveQueue(gateway.id)] as const).map((queue) => ({
      queue,
      body: Buffer.from('no message of feedctl'),
    })),
  ]);
  const last = await createPost(cluster, author, 'after them');
  await expect.poll(() => client.posts).toEqual([id, last.id]);
  await cluster.settled();
  expect(outsider.posts).toEqual([]);
  expect(client.posts).toEqual([id, last.id]);
  expect([client.closes, outsider.closes]).toEqual([[], []]);
});
