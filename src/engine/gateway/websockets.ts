import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { WebSocketServer, type Server as WsServer } from 'ws';
import type { Hub } from '../live/hub.ts';
import { CLOSE_CODES } from '../live/session.ts';
import { messageOf } from '../model/errors.ts';
import { isTransient } from '../resilience/classify.ts';
import { SOCKETS } from '../resilience/limits.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import {
  type Admission,
  type AdmissionContext,
  admit,
  checkOrigins,
  type Refusal,
  TOO_MANY,
} from './admission.ts';
import { FeedSocket } from './feedSocket.ts';

/** Pings are spread over the heartbeat in this many turns. */
const TURNS = 30;
/** Time for a client to answer the close frame. */
const CLOSE_TIMEOUT_MS = 2_000;
/** Seconds after which a client with too many sockets may retry. */
const FULL_RETRY_SECONDS = 5;

export interface SocketLimits {
  /** Maximum number of open sockets at this gateway; 0: unlimited. */
  readonly perUser: number;
  readonly perIp: number;
}

export interface SocketOptions {
  readonly limits?: SocketLimits | undefined;
  /**
   * Allowed `Origin` headers, besides the gateway's own. Empty: all. Clients that are no browsers
   * send none, and are allowed.
   */
  readonly origins?: readonly string[] | undefined;
  /**
   * Interval of pings. Default: 20 s. A client that is lost is noticed at the second ping that it does
   * not answer, within twice this time.
   */
  readonly heartbeatMs?: number | undefined;
}

export interface Sockets {
  /** Refuses new sockets, and closes the open ones one after the other over `ms`. */
  drain(ms: number): Promise<void>;
  stop(): Promise<void>;
}

interface SocketContext extends AdmissionContext {
  readonly hub: Hub;
  readonly metrics?: Metrics | undefined;
}

/**
 * Serves WebSockets on an HTTP server: `GET /post/feed/posted?token=…&after=…`, or `?ticket=…`.
 * docs/asyncapi.json describes frames, close codes and refusals. Throws CONFIG_INVALID.
 */
export function serveSockets(server: Server, context: SocketContext, options: SocketOptions = {}): Sockets {
  checkOrigins(options.origins ?? []);
  return new SocketServer(server, context, options);
}

/** One listener of an HTTP server's upgrades, and the sockets that it has opened. */
class SocketServer implements Sockets {
  readonly #server: Server;
  readonly #context: SocketContext;
  readonly #limits: SocketLimits;
  readonly #origins: readonly string[];
  readonly #webSockets: WsServer<typeof FeedSocket>;
  readonly #byAddress = new Map<string, number>();
  readonly #pings: NodeJS.Timeout;
  #draining = false;
  /** Turn of the socket that was opened last. */
  #lastTurn = 0;
  /** Turn that is pinged. */
  #turn = 0;

  constructor(server: Server, context: SocketContext, options: SocketOptions) {
    this.#server = server;
    this.#context = context;
    this.#limits = options.limits ?? SOCKETS;
    this.#origins = options.origins ?? [];
    const settings = {
      noServer: true,
      WebSocket: FeedSocket,
      maxPayload: SOCKETS.payloadBytes,
      // Deflate costs 241 KB a connection instead of 7.7 KB, for frames of a few hundred bytes.
      perMessageDeflate: false,
      autoPong: false,
      // Missing in the types.
      closeTimeout: CLOSE_TIMEOUT_MS,
    };
    this.#webSockets = new WebSocketServer<typeof FeedSocket>(settings);
    server.on('upgrade', this.#onUpgrade);
    this.#pings = setInterval(
      () => this.#ping(),
      (options.heartbeatMs ?? SOCKETS.pingSeconds * 1_000) / TURNS,
    );
  }

  async drain(ms: number): Promise<void> {
    this.#draining = true;
    await this.#context.hub.drain(ms);
  }

  async stop(): Promise<void> {
    clearInterval(this.#pings);
    this.#server.off('upgrade', this.#onUpgrade);
    for (const socket of this.#webSockets.clients) socket.close(CLOSE_CODES.restart, 'the gateway stops');
    // `ws` cuts a client that does not answer. A second stop passes an error, which is ignored.
    await new Promise((done) => this.#webSockets.close(done));
  }

  readonly #onUpgrade = async (request: IncomingMessage, stream: Duplex, head: Buffer): Promise<void> => {
    stream.on('error', destroy);
    const options = { origins: this.#origins, draining: this.#draining };
    const admission = await admit(request, this.#context, options);
    if ('refused' in admission) return this.#refuse(stream, admission);
    if (this.#isFull(admission))
      return this.#refuse(stream, { refused: TOO_MANY, retryAfterSeconds: FULL_RETRY_SECONDS });
    this.#webSockets.handleUpgrade(request, stream, head, (socket) => {
      // `ws` has its own listener from here on.
      stream.off('error', destroy);
      socket.stream = stream;
      void this.#open(socket, admission);
    });
  };

  #isFull({ address, userId }: Admission): boolean {
    const { perIp, perUser } = this.#limits;
    return (
      (perIp > 0 && (this.#byAddress.get(address) ?? 0) >= perIp) ||
      (perUser > 0 && this.#context.hub.socketsOf(userId) >= perUser)
    );
  }

  #refuse(stream: Duplex, { refused: status, retryAfterSeconds }: Refusal): void {
    this.#context.metrics?.count('feedctl_gateway_refused_total', 1, { status: status.slice(0, 3) });
    const retry = retryAfterSeconds === undefined ? '' : `Retry-After: ${retryAfterSeconds}\r\n`;
    // Destroyed when sent: a client may never close its side.
    stream.once('finish', () => stream.destroy());
    stream.end(`HTTP/1.1 ${status}\r\nConnection: close\r\n${retry}Content-Length: 0\r\n\r\n`);
  }

  async #open(socket: FeedSocket, { address, userId, until, after }: Admission): Promise<void> {
    const { hub, log, metrics } = this.#context;
    socket.address = address;
    socket.until = until;
    socket.metrics = metrics;
    socket.turn = this.#lastTurn = (this.#lastTurn + 1) % TURNS;
    this.#byAddress.set(address, (this.#byAddress.get(address) ?? 0) + 1);
    socket.onClosed = this.#onClosed;
    socket.listen();
    try {
      socket.session = hub.open(socket, userId, after);
      await hub.connect(socket.session);
    } catch (error) {
      log.warn({ userId, reason: messageOf(error) }, 'socket not connected');
      if (isTransient(error)) socket.close(CLOSE_CODES.tryAgain, 'try again');
      else socket.close(CLOSE_CODES.internal, 'the feed could not be read');
    }
  }

  readonly #onClosed = ({ session, address }: FeedSocket): void => {
    if (session) this.#context.hub.disconnect(session);
    const left = this.#byAddress.get(address)! - 1;
    if (left > 0) this.#byAddress.set(address, left);
    else this.#byAddress.delete(address);
  };

  #ping(): void {
    this.#turn = (this.#turn + 1) % TURNS;
    const now = Date.now();
    for (const socket of this.#webSockets.clients) if (socket.turn === this.#turn) socket.heartbeat(now);
  }
}

/** One function for all connections. */
function destroy(this: Duplex): void {
  this.destroy();
}
