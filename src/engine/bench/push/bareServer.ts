// Process of `bench push`: a minimal WebSocket server with `ws`, to compare the gateway with.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { WebSocketServer } from 'ws';
import { answerParent } from './answering.ts';
import { type BareServerCalls, machineNow } from './protocol.ts';

const server = createServer();
const sockets = new WebSocketServer({ server, perMessageDeflate: false });
sockets.on('error', () => {});

answerParent<BareServerCalls>({
  async listen({ hello }) {
    sockets.on('connection', (socket) => {
      socket.on('error', () => socket.terminate());
      socket.send(hello);
    });
    // The backlog of the gateway's server.
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', 511, done));
    return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
  },
  usage() {
    const { user, system } = process.cpuUsage();
    return { rssBytes: process.memoryUsage.rss(), cpuSeconds: (user + system) / 1e6 };
  },
  broadcast({ text }) {
    const startedAt = machineNow();
    const bytes = Buffer.from(text);
    for (const socket of sockets.clients) socket.send(bytes, { binary: false });
    return { startedAt };
  },
});
