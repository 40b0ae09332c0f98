import { once } from 'node:events';
import { createConnection, createServer, type Server, type Socket } from 'node:net';

/**
 * State of a link. `blackhole`: nothing passes either way, and no end of a connection is seen. `half-open`:
 * requests pass, answers do not. Held bytes pass later, as TCP sends them again. `delayed`: each byte is late
 * by the same time, in one direction or in both.
 */
export type LinkState =
  | { readonly kind: 'open' }
  | { readonly kind: 'cut' }
  | { readonly kind: 'blackhole' }
  | { readonly kind: 'half-open' }
  | { readonly kind: 'delayed'; readonly ms: number; readonly way?: Way }
  | { readonly kind: 'throttled'; readonly bytesPerSecond: number };

const OPEN: LinkState = { kind: 'open' };

/** Bytes of one direction that wait for the state of the link to change. */
const HELD_BYTES = 1 << 20;

type Way = 'request' | 'answer';

interface Held {
  readonly chunk: Buffer;
  /** When it came, by the monotonic clock. */
  readonly at: number;
}

/** One direction of one connection. Keeps the order of its bytes in every state. */
class Direction {
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #way: Way;
  readonly #state: () => LinkState;
  #held: Held[] = [];
  #heldBytes = 0;
  #ended = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(from: Socket, to: Socket, way: Way, state: () => LinkState) {
    this.#from = from;
    this.#to = to;
    this.#way = way;
    this.#state = state;
    from.on('data', (chunk) => {
      this.#held.push({ chunk, at: performance.now() });
      this.#heldBytes += chunk.length;
      if (this.#heldBytes > HELD_BYTES) from.pause();
      this.pump();
    });
    from.on('error', () => {});
    from.on('close', () => {
      this.#ended = true;
      this.pump();
    });
    to.on('drain', () => this.pump());
  }

  /** Passes on what the state of the link lets through. */
  pump(): void {
    if (this.#timer) return;
    const state = this.#state();
    if (state.kind === 'blackhole' || (state.kind === 'half-open' && this.#way === 'answer')) return;
    const waitMs = this.#held.length === 0 ? 0 : waitOf(state, this.#way, this.#held[0]!);
    if (waitMs === 0) {
      this.#pass();
      return;
    }
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#pass();
      this.pump();
    }, waitMs);
  }

  /** Begins with another state: no byte waits for the end of a delay that is over. */
  changed(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.pump();
  }

  #pass(): void {
    const state = this.#state();
    while (this.#held.length > 0 && !this.#to.writableNeedDrain) {
      const { chunk } = this.#held.shift()!;
      this.#heldBytes -= chunk.length;
      this.#to.write(chunk);
      if (state.kind === 'delayed' || state.kind === 'throttled') break;
    }
    if (this.#heldBytes <= HELD_BYTES) this.#from.resume();
    // The last bytes, such as a close frame, are sent before the end.
    if (this.#ended && this.#held.length === 0) this.#to.destroySoon();
    else if (this.#held.length > 0 && !this.#to.writableNeedDrain) this.pump();
  }
}

function waitOf(state: LinkState, way: Way, { chunk, at }: Held): number {
  if (state.kind === 'throttled') return (chunk.length / state.bytesPerSecond) * 1_000;
  if (state.kind !== 'delayed' || (state.way ?? way) !== way) return 0;
  return Math.max(0, at + state.ms - performance.now());
}

/** A TCP proxy between one process and one server. It can be broken; it never corrupts bytes. */
export class Link {
  readonly port: number;
  readonly #server: Server;
  readonly #target: { readonly host: string; readonly port: number };
  readonly #connections = new Map<Socket, { upstream: Socket; directions: readonly Direction[] }>();
  #state: LinkState = OPEN;

  private constructor(server: Server, target: { readonly host: string; readonly port: number }) {
    this.#server = server;
    this.#target = target;
    this.port = (server.address() as { port: number }).port;
    server.on('connection', (client) => this.#accept(client));
  }

  static async open(target: { readonly host: string; readonly port: number }): Promise<Link> {
    const server = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new Link(server, target);
  }

  get address(): string {
    return `127.0.0.1:${this.port}`;
  }

  get state(): LinkState {
    return this.#state;
  }

  /** Changes the state, also of connections that exist. `cut` ends them. */
  set(state: LinkState): void {
    this.#state = state;
    if (state.kind === 'cut') this.#dropAll();
    for (const { directions } of this.#connections.values()) for (const one of directions) one.changed();
  }

  heal(): void {
    this.set(OPEN);
  }

  close(): void {
    this.#dropAll();
    this.#server.close();
  }

  #accept(client: Socket): void {
    if (this.#state.kind === 'cut') {
      client.resetAndDestroy();
      return;
    }
    const upstream = createConnection(this.#target);
    client.setNoDelay(true);
    upstream.setNoDelay(true);
    const state = () => this.#state;
    const directions = [
      new Direction(client, upstream, 'request', state),
      new Direction(upstream, client, 'answer', state),
    ];
    this.#connections.set(client, { upstream, directions });
    client.on('close', () => {
      if (upstream.destroyed) this.#connections.delete(client);
    });
    upstream.on('close', () => {
      if (client.destroyed) this.#connections.delete(client);
    });
    client.resume();
  }

  #dropAll(): void {
    for (const [client, { upstream }] of this.#connections) {
      client.resetAndDestroy();
      upstream.resetAndDestroy();
    }
    this.#connections.clear();
  }
}
