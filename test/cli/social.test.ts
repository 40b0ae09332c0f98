import { once } from 'node:events';
import { connect } from 'node:net';
import { expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { feedctl, json, start, temporaryDirectory, up, waitUntil } from '../support/cli.ts';

interface Page {
  items: { postId: number; authorId: number; body: string; source: string }[];
  nextCursor: string | null;
}

test('a post made in one process is in a feed read in another, and on open sockets', async () => {
  const { at, gatewayUrl } = await up(await temporaryDirectory());
  const { id: author } = await json<{ id: number }>(['user', 'create', 'Ada', 'Lovelace', ...at]);
  const { id: reader } = await json<{ id: number }>(['user', 'create', ...at]);
  const pair = await json(['follow', 'create', `${reader}`, `${author}`, ...at]);
  expect(pair).toEqual({ followerId: reader, followeeId: author, changed: true, dryRun: false });

  const watch = start(['feed', 'watch', `${reader}`, '--count', '1', '--json', ...at]);
  await waitUntil(() => watch.stderr().includes('Watching'));
  const { token } = await json<{ token: string }>(['user', 'token', `${reader}`, ...at]);
  const socket = new WebSocket(`${gatewayUrl.replace('http', 'ws')}/post/feed/posted?token=${token}`);
  const frames: { messageId: string; payload: Record<string, string> }[] = [];
  socket.on('message', (data) => frames.push(JSON.parse(String(data))));
  await waitUntil(() => frames[0]?.messageId === 'hello');

  const text = 'with "quotes", a\nline break and 🦊';
  const post = await json<{ id: number }>(['post', 'create', `${author}`, text, ...at]);
  const watched = await watch.ended;
  expect(watched.status).toBe(0);
  expect(JSON.parse(watched.stdout)).toMatchObject({ postId: String(post.id), postText: text });
  await waitUntil(() => frames.length > 1);
  expect(frames[1]).toMatchObject({
    messageId: 'post',
    payload: { postId: String(post.id), postText: text, author_user_id: String(author) },
  });
  socket.close();

  const show = () => json<Page>(['feed', 'show', `${reader}`, ...at]);
  await waitUntil(async () => (await show()).items.length > 0);
  const item = { postId: post.id, authorId: author, body: text };
  expect(await show()).toMatchObject({ items: [{ ...item, source: 'pushed' }], nextCursor: null });
  expect(await json<Page>(['feed', 'show', `${author}`, ...at])).toMatchObject({
    items: [{ ...item, source: 'own' }],
  });
  const asText = await feedctl(['feed', 'show', `${reader}`, ...at]);
  expect(asText.stdout).toContain('with "quotes", a line break and 🦊');

  await json(['post', 'delete', `${post.id}`, '--yes', ...at]);
  expect((await show()).items).toEqual([]);
  await json(['follow', 'delete', `${reader}`, `${author}`, ...at]);
  expect(await json(['feed', 'verify', '--all', ...at])).toMatchObject({ checked: 2, mismatched: 0 });
  expect(frames.length).toBe(2);
});

test('a request that is no URL is refused, and the cluster goes on', async () => {
  const { at, gatewayUrl } = await up(await temporaryDirectory());
  const { hostname, port } = new URL(gatewayUrl);
  const lines = [
    'GET // HTTP/1.1',
    'Host: x',
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
  ];
  const socket = connect(Number(port), hostname);
  socket.write(`${[...lines, 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=='].join('\r\n')}\r\n\r\n`);
  const [answer] = await once(socket, 'data');
  expect(String(answer)).toMatch(/^HTTP\/1\.1 40[04] /);
  expect(await json(['status', ...at])).toMatchObject({ ready: true });
});
