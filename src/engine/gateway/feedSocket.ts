import type { Duplex } from 'node:stream';
import { type RawData, WebSocket } from 'ws';
import { CLOSE_CODES, type LiveSocket, type Session } from '../live/session.ts';
import { SOCKETS } from '../resilience/limits.ts';
import type { Metrics } from '../telemetry/metrics.ts';

/**
 * A socket of the server, with everything that the hub needs of it. Nothing else is stored per
 * socket.
 */
export class FeedSocket extends WebSocket implements LiveSocket {
  address = '';
  stream!: Duplex;
  metrics: Metrics | undefined;
  session: Session | undefined;
  /** Called when it is closed. Shared by all sockets. */
  onClosed: ((socket: FeedSocket) => void) | undefined;
  /** It has answered the last ping. */
  alive = true;
  /** End of its admission, in unix milliseconds. */
  until = Number.POSITIVE_INFINITY;
  /** The turn of the heartbeat in which it is pinged. */
  turn = 0;
  /** Frames received since the start of the window, in seconds of the monotonic clock. */
  inbound = 0;
  countedFrom = 0;

  get bufferedBytes(): number {
    return this.bufferedAmount;
  }

  /**
   * Writes a whole frame, which many sockets share, to the connection as it is. `ws` writes there
   * synchronously too, as it does not compress, so frames never interleave.
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

  /** Adds the listeners that all sockets share: a closure for each socket would cost memory. */
  listen(): void {
    this.on('pong', LISTENERS.pong).on('ping', LISTENERS.ping).on('message', LISTENERS.message);
    this.on('error', LISTENERS.error).on('close', LISTENERS.close);
  }

  /** Pings, or ends a socket that did not answer the last ping or whose admission has ended. */
  heartbeat(now: number): void {
    if (this.readyState !== WebSocket.OPEN) return;
    if (!this.alive) this.terminate();
    else if (now > this.until) this.close(CLOSE_CODES.policy, 'the token has expired');
    else {
      this.alive = false;
      this.ping();
    }
  }

  /**
   * Counts a frame of the client. Frames are bounded and otherwise ignored: the protocol has none.
   */
  accepts(): boolean {
    const now = Math.floor(performance.now() / 1_000);
    if (now - this.countedFrom >= SOCKETS.inboundWindowSeconds) {
      this.countedFrom = now;
      this.inbound = 0;
    }
    this.inbound += 1;
    if (this.inbound <= SOCKETS.inbound) return true;
    this.close(CLOSE_CODES.policy, 'too many messages');
    return false;
  }
}

const LISTENERS = {
  pong(this: WebSocket): void {
    (this as FeedSocket).alive = true;
    (this as FeedSocket).accepts();
  },
  ping(this: WebSocket, data: Buffer): void {
    if ((this as FeedSocket).accepts() && this.readyState === WebSocket.OPEN) this.pong(data);
  },
  message(this: WebSocket, _data: RawData, isBinary: boolean): void {
    if (isBinary) this.close(CLOSE_CODES.unsupported, 'no binary messages');
    else (this as FeedSocket).accepts();
  },
  /** A frame breaks the protocol: `ws` closes with 1002, 1007 or 1009. */
  error(): void {},
  close(this: WebSocket): void {
    const socket = this as FeedSocket;
    socket.onClosed?.(socket);
  },
};
