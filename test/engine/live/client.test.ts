import type { AddressInfo } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { WebSocketServer } from 'ws';
import { followFeed } from '../../../src/engine/live/client.ts';

test('a gateway that opens a socket and says nothing is reported as unreachable', async () => {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  onTestFinished(() => server.close());
  await new Promise((done) => server.once('listening', done));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  await expect(followFeed(url, 'token', () => {}, { timeoutMs: 300 })).rejects.toMatchObject({
    code: 'GATEWAY_UNREACHABLE',
    message: expect.stringContaining('no hello frame within 0.3 s'),
  });
  await expect.poll(() => server.clients.size).toBe(0);
});
