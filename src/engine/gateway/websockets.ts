import type { IncomingHttpHeaders, IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { type RawData, WebSocket, WebSocketServer } from 'ws';
import { type Cursor, parseCursor } from '../live/cursor.ts';
import type { Hub } from '../live/hub.ts';
import { CLOSE_CODES, type LiveSocket, type Session } from '../live/session.ts';
import { FeedctlError, isFeedctlError, messageOf } from '../model/errors.ts';
import { isTransient } from '../resilience/classify.ts';
import { SOCKETS } from '../resilience/limits.ts';
import type { Log } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { RetryLater } from './problems.ts';

const PATH = '/post/feed/posted';
/** A client that has not answered a ping by the next one is gone: at most twice this time after it went. */
const HEARTBEAT_MS = 30_000;
/** Pings are spread over that time in so many turns. */
const TURNS = 30;
/** After the close frame a client has so long to close its side. */
const CLOSE_TIMEOUT_MS = 2_000;

export interface SocketLimits {
  /** Open at a time, at this gateway; 0: any number. */
  readonly perUser: number;
  readonly perIp: number;
}

export interface SocketOptions {
  readonly limits?: SocketLimits | undefined;
  /**
   * `Origin` headers that are let in, as browsers send them, besides the gateway's own; all where there are none. Other
   * clients send none.
   */
  readonly origins?: readonly string[] | undefined;
  /** From one ping to the next. */
  readonly heartbeatMs?: number | undefined;
}

export interface Sockets {
  /** Closes them one after the other over `ms`, and lets no more in. */
  drain(ms: number): Promise<void>;
  stop(): Promise<void>;
}

/** A socket of the server's, with what the hub needs of it: nothing is kept for a socket beside this object. */
class FeedSocket extends WebSocket implements LiveSocket {
  address = '';
  stream!: Duplex;
  metrics: Metrics | undefined;
  session: Session | undefined;
  /** It has answered the last ping. */
  alive = true;
  /** Its token may be believed, in unix milliseconds. */
  until = Number.POSITIVE_INFINITY;
  /** In which turn it is pinged. */
  turn = 0;
  /** Frames that have come since the last ping. */
  inbound = 0;

  get bufferedBytes(): number {
    return this.bufferedAmount;
  }

  /**
   * The frame is whole, and many sockets share it, so it goes to the connection as it is. `ws` itself writes there
   * synchronously, as nothing is compressed.
   */
  write(frame: Buffer): void {
    if (this.readyState !== WebSocket.OPEN) return;
    if (this.bufferedAmount > SOCKETS.bufferedBytes)
      this.close(CLOSE_CODES.tooSlow, 'too slow: reconnect with your cursor');
    else this.stream.write(frame);
  }

  override close(code?: number, reason?: string | Buffer): void {
    if (this.readyState === WebSocket.OPEN)
      this.metrics?.count('feedctl_gateway_closed_total', 1, { code: String(code) });
    super.close(code, reason);
  }
}

/** Clients have nothing to say: what they send is bounded, and not looked at. */
function heard(socket: FeedSocket): boolean {
  socket.inbound += 1;
  if (socket.inbound <= SOCKETS.inbound) return true;
  socket.close(CLOSE_CODES.policy, 'too many messages');
  return false;
}

/** One function of each kind for all sockets: a closure for every socket would take memory. */
const LISTENERS = {
  pong(this: WebSocket): void {
    (this as FeedSocket).alive = true;
  },
  ping(this: WebSocket, data: Buffer): void {
    if (heard(this as FeedSocket) && this.readyState === WebSocket.OPEN) this.pong(data);
  },
  message(this: WebSocket, _data: RawData, isBinary: boolean): void {
    if (isBinary) this.close(CLOSE_CODES.unsupported, 'no binary messages');
    else heard(this as FeedSocket);
  },
  /** A frame that breaks the protocol: `ws` closes with 1002, 1007 or 1009. */
  error(): void {},
};

/** Of all connections: a function for each would stay with its socket. */
function destroy(this: Duplex): void {
  this.destroy();
}

/** Browsers send no path and no upper case: another spelling would let nobody in. Throws CONFIG_INVALID. */
function checkOrigins(origins: readonly string[]): void {
  for (const origin of origins) {
    if (origin !== 'null' && URL.parse(origin)?.origin !== origin)
      throw new FeedctlError('CONFIG_INVALID', `${origin} is no origin, as https://app.example is`);
  }
}

/** The page that the gateway serves itself is its own origin, under whatever name and behind whatever proxy it is reached. */
function isAllowed({ origin, host }: IncomingHttpHeaders, origins: readonly string[]): boolean {
  if (origin === undefined || origins.length === 0 || origins.includes(origin)) return true;
  return host !== undefined && URL.parse(origin)?.host === host.toLowerCase();
}

/**
 * Serves WebSockets on an HTTP server: `GET /post/feed/posted?token=…&after=…`, or `?ticket=…`. Frames, close codes and what is refused
 * are in docs/asyncapi.json. Throws CONFIG_INVALID.
 */
export function serveSockets(
  server: Server,
  context: {
    hub: Hub;
    /**
     * The user that a token or a ticket in the query stands for, and until when (unix milliseconds). Throws INVALID_TOKEN or
     * RATE_LIMITED.
     */
    authenticate: (query: URLSearchParams, address: string) => Promise<{ userId: number; until: number }>;
    /** Who sent a request, as limits count. */
    addressOf: (request: IncomingMessage) => string;
    log: Log;
    metrics?: Metrics | undefined;
  },
  options: SocketOptions = {},
): Sockets {
  const { hub, log, metrics } = context;
  const { limits = SOCKETS, origins = [], heartbeatMs = HEARTBEAT_MS } = options;
  checkOrigins(origins);
  // Deflate costs 241 KB a connection against 7.7 KB without, for frames of a few hundred bytes.
  const settings = {
    noServer: true,
    WebSocket: FeedSocket,
    maxPayload: SOCKETS.payloadBytes,
    perMessageDeflate: false,
    autoPong: false,
    // Missing in the types.
    closeTimeout: CLOSE_TIMEOUT_MS,
  };
  const webSockets = new WebSocketServer<typeof FeedSocket>(settings);
  const byAddress = new Map<string, number>();
  let draining = false;
  let lastTurn = 0;

  const refuse = (stream: Duplex, status: string, retryAfter?: number) => {
    metrics?.count('feedctl_gateway_refused_total', 1, { status: status.slice(0, 3) });
    const retry = retryAfter === undefined ? '' : `Retry-After: ${retryAfter}\r\n`;
    // A client that does not close its side is not waited for.
    stream.once('finish', () => stream.destroy());
    stream.end(`HTTP/1.1 ${status}\r\nConnection: close\r\n${retry}Content-Length: 0\r\n\r\n`);
  };
  const isFull = (count: number, limit: number) => limit > 0 && count >= limit;

  const onUpgrade = async (request: IncomingMessage, stream: Duplex, head: Buffer) => {
    stream.on('error', destroy);
    const url = URL.parse(`http://gateway${request.url ?? '/'}`);
    if (!url) return refuse(stream, '400 Bad Request');
    if (url.pathname !== PATH) return refuse(stream, '404 Not Found');
    if (draining) return refuse(stream, '503 Service Unavailable', 1);
    if (!isAllowed(request.headers, origins)) return refuse(stream, '403 Forbidden');
    const address = context.addressOf(request);
    let after: Cursor | undefined;
    let userId: number;
    let until: number;
    try {
      const text = url.searchParams.get('after');
      if (text) after = parseCursor(text);
      ({ userId, until } = await context.authenticate(url.searchParams, address));
    } catch (error) {
      if (isFeedctlError(error, 'INVALID_TOKEN')) return refuse(stream, '401 Unauthorized');
      if (isFeedctlError(error, 'INVALID_CURSOR') || isFeedctlError(error, 'INVALID_ID'))
        return refuse(stream, '400 Bad Request');
      if (isFeedctlError(error, 'RATE_LIMITED'))
        return refuse(stream, '429 Too Many Requests', (error as RetryLater).retryAfterSeconds);
      log.warn({ reason: messageOf(error) }, 'socket refused');
      return refuse(stream, '503 Service Unavailable', 1);
    }
    if (isFull(byAddress.get(address) ?? 0, limits.perIp) || isFull(hub.socketsOf(userId), limits.perUser))
      return refuse(stream, '429 Too Many Requests', 5);
    webSockets.handleUpgrade(request, stream, head, (socket) => {
      // `ws` has its own from now on.
      stream.off('error', destroy);
      socket.stream = stream;
      socket.address = address;
      socket.until = until;
      void open(socket, userId, after);
    });
  };
  const open = async (socket: FeedSocket, userId: number, after: Cursor | undefined) => {
    socket.metrics = metrics;
    socket.turn = lastTurn = (lastTurn + 1) % TURNS;
    byAddress.set(socket.address, (byAddress.get(socket.address) ?? 0) + 1);
    socket.on('pong', LISTENERS.pong).on('ping', LISTENERS.ping).on('message', LISTENERS.message);
    socket.on('error', LISTENERS.error).on('close', onClose);
    try {
      socket.session = hub.open(socket, userId, after);
      await hub.connect(socket.session);
    } catch (error) {
      log.warn({ userId, reason: messageOf(error) }, 'socket not connected');
      if (isTransient(error)) socket.close(CLOSE_CODES.tryAgain, 'try again');
      else socket.close(CLOSE_CODES.internal, 'the feed could not be read');
    }
  };
  function onClose(this: WebSocket): void {
    const { session, address } = this as FeedSocket;
    if (session) hub.disconnect(session);
    const left = byAddress.get(address)! - 1;
    if (left > 0) byAddress.set(address, left);
    else byAddress.delete(address);
  }
  server.on('upgrade', onUpgrade);

  let tick = 0;
  const pings = setInterval(() => {
    tick = (tick + 1) % TURNS;
    for (const socket of webSockets.clients) {
      if (socket.turn !== tick || socket.readyState !== WebSocket.OPEN) continue;
      if (!socket.alive) {
        socket.terminate();
        continue;
      }
      if (Date.now() > socket.until) {
        socket.close(CLOSE_CODES.policy, 'the token has expired');
        continue;
      }
      socket.alive = false;
      socket.inbound = 0;
      socket.ping();
    }
  }, heartbeatMs / TURNS);

  return {
    async drain(ms) {
      draining = true;
      await hub.drain(ms);
    },
    async stop() {
      clearInterval(pings);
      server.off('upgrade', onUpgrade);
      for (const socket of webSockets.clients) socket.close(CLOSE_CODES.restart, 'the gateway stops');
      // `ws` cuts whoever does not answer. Closed a second time it only says so.
      await new Promise((done) => webSockets.close(done));
    },
  };
}
