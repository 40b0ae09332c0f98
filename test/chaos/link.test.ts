import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { Link } from './link.ts';

const LONG_MS = 600_000;

/** A link to a server that answers each text with itself. `asked`: the texts that came. */
async function echo() {
  const asked: string[] = [];
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', (data) => {
      asked.push(String(data));
      socket.write(data);
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const link = await Link.open({ host: '127.0.0.1', port });
  onTestFinished(() => {
    link.close();
    server.close();
  });
  const client = connect(link.port, '127.0.0.1');
  client.on('error', () => {});
  const answers: string[] = [];
  client.on('data', (data) => answers.push(String(data)));
  await once(client, 'connect');
  return { link, client, asked, answers };
}

test('a link that delays answers passes requests at once, and answers when it is healed', async () => {
  const { link, client, asked, answers } = await echo();
  link.set({ kind: 'delayed', ms: LONG_MS, way: 'answer' });
  client.write('a');
  await expect.poll(() => asked).toEqual(['a']);
  link.set({ kind: 'delayed', ms: LONG_MS });
  client.write('b');
  // Another connection shows that the time of a turn has passed.
  const other = connect(link.port, '127.0.0.1');
  await once(other, 'connect');
  other.destroy();
  expect([asked, answers]).toEqual([['a'], []]);
  link.heal();
  await expect.poll(() => answers.join('')).toBe('ab');
});

test('a link that was cut ends its connections, and half of an open one passes requests only', async () => {
  const { link, client, asked, answers } = await echo();
  link.set({ kind: 'half-open' });
  client.write('a');
  await expect.poll(() => asked).toEqual(['a']);
  expect(answers).toEqual([]);
  link.set({ kind: 'cut' });
  await expect.poll(() => client.destroyed).toBe(true);
});
