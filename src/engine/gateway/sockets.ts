import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { WebSocket, WebSocketServer } from 'ws';
import type { Hub } from '../live/hub.ts';
import { isFeedctlError } from '../model/errors.ts';
import type { Post } from '../model/post.ts';
import type { Log } from '../telemetry/log.ts';

const PATH = '/post/feed/posted';
const PING_EVERY_MS = 30_000;
/** What one slow client may keep in this process's memory. */
const MAX_BUFFERED_BYTES = 1024 ** 2;
/** Clients have nothing to say but pongs. */
const MAX_PAYLOAD_BYTES = 4096;
export const CLOSE_CODES = { shutdown: 1001, internal: 1011, tooSlow: 4008 } as const;

const postFrame = (post: Post): string =>
  JSON.stringify({
    messageId: 'post',
    payload: {
      postId: String(post.id),
      postText: post.body,
      author_user_id: String(post.authorId),
      createdAt: post.createdAt.toISOString(),
    },
    cursor: String(post.id),
  });

/** Serves WebSockets on an HTTP server: `GET /post/feed/posted?token=…`. Returns how to close them all. */
export function serveSockets(
  server: Server,
  context: { hub: Hub; checkToken: (token: string) => Promise<number>; log: Log },
): () => Promise<void> {
  const { hub, log } = context;
  // Deflate costs 241 KB a connection against 7.7 KB without, for frames of a few hundred bytes.
  const sockets = new WebSocketServer({
    noServer: true,
    maxPayload: MAX_PAYLOAD_BYTES,
    perMessageDeflate: false,
  });
  const alive = new WeakSet<WebSocket>();

  const refuse = (stream: Duplex, status: string) => {
    stream.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
  };
  const onUpgrade = async (request: IncomingMessage, stream: Duplex, head: Buffer) => {
    stream.on('error', () => stream.destroy());
    const url = URL.parse(`http://gateway${request.url ?? '/'}`);
    if (!url) return refuse(stream, '400 Bad Request');
    if (url.pathname !== PATH) return refuse(stream, '404 Not Found');
    let userId: number;
    try {
      userId = await context.checkToken(url.searchParams.get('token') ?? '');
    } catch (error) {
      return refuse(
        stream,
        isFeedctlError(error, 'INVALID_TOKEN') ? '401 Unauthorized' : '503 Service Unavailable',
      );
    }
    sockets.handleUpgrade(request, stream, head, (socket) => void open(socket, userId));
  };
  const open = async (socket: WebSocket, userId: number) => {
    alive.add(socket);
    socket.on('pong', () => alive.add(socket)).on('error', () => socket.terminate());
    const live = {
      userId,
      send(post: Post) {
        if (socket.readyState !== WebSocket.OPEN) return;
        if (socket.bufferedAmount > MAX_BUFFERED_BYTES)
          socket.close(CLOSE_CODES.tooSlow, 'too slow: reconnect and read the feed');
        else socket.send(postFrame(post));
      },
    };
    try {
      const disconnect = await hub.connect(live);
      socket.once('close', disconnect);
      if (socket.readyState !== WebSocket.OPEN) disconnect();
      else socket.send(JSON.stringify({ messageId: 'hello', payload: { userId: String(userId) } }));
    } catch (error) {
      log.warn({ userId, reason: String(error) }, 'socket refused');
      socket.close(CLOSE_CODES.internal, 'try again');
    }
  };
  server.on('upgrade', onUpgrade);
  const pings = setInterval(() => {
    for (const socket of sockets.clients) {
      if (!alive.delete(socket)) socket.terminate();
      else socket.ping();
    }
  }, PING_EVERY_MS);

  return async () => {
    clearInterval(pings);
    server.off('upgrade', onUpgrade);
    for (const socket of sockets.clients) socket.close(CLOSE_CODES.shutdown, 'the gateway is going away');
    // A client that does not answer the close is not waited for.
    const cut = setTimeout(() => {
      for (const socket of sockets.clients) socket.terminate();
    }, 1_000);
    await new Promise((done) => sockets.close(done));
    clearTimeout(cut);
  };
}
