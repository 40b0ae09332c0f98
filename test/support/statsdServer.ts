import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';

/** Starts a StatsD server that keeps its datagrams until the test ends. */
export async function startStatsdServer() {
  const socket = createSocket('udp4');
  const datagrams: string[] = [];
  socket.on('message', (message) => datagrams.push(message.toString()));
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  onTestFinished(() => void socket.close());
  const { port } = socket.address() as AddressInfo;
  return {
    url: `statsd://127.0.0.1:${port}`,
    datagrams,
    lines: (name: string) =>
      datagrams.flatMap((datagram) => datagram.split('\n')).filter((line) => line.startsWith(name)),
  };
}
