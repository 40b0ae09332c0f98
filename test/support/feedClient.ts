import { setTimeout as sleep } from 'node:timers/promises';
import { WebSocket } from 'ws';
import type { Frame } from './liveSocket.ts';

/** A client as documented: it keeps the cursor of the last frame and reconnects with it. */
export class FeedClient {
  readonly userId: number;
  readonly token: string;
  readonly hellos: Frame[] = [];
  /** Posts in the order of their arrival, over all sessions. */
  readonly posts: number[] = [];
  /** Edits in the order of their arrival, over all sessions. */
  readonly edits: { readonly postId: number; readonly version: number }[] = [];
  readonly deleted: number[] = [];
  /** The text that the client shows of each post that it got. */
  readonly texts = new Map<number, string>();
  /** Close codes of ended sessions. */
  readonly closes: number[] = [];
  cursor: string | undefined;
  /** Called with each frame. */
  onFrame: (frame: Frame) => void = () => {};
  #socket: WebSocket | undefined;
  #following: Promise<void> | undefined;
  #stopped = false;

  constructor(userId: number, token: string) {
    this.userId = userId;
    this.token = token;
  }

  get socket(): WebSocket {
    return this.#socket!;
  }

  get isOpen(): boolean {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  /** Resolves at the hello. Throws with the status if the gateway refuses. */
  open(url: string, after = this.cursor): Promise<void> {
    const target = new URL('/post/feed/posted', url.replace(/^http/, 'ws'));
    target.searchParams.set('token', this.token);
    if (after !== undefined) target.searchParams.set('after', after);
    const socket = new WebSocket(target, { perMessageDeflate: false });
    this.#socket = socket;
    return new Promise((resolve, reject) => {
      socket.on('error', reject);
      socket.on('unexpected-response', (_, response) => {
        socket.terminate();
        reject(new Error(`HTTP ${response.statusCode}`));
      });
      socket.on('close', (code) => {
        this.closes.push(code);
        reject(new Error(`closed ${code}`));
      });
      socket.on('message', (data) => {
        const frame = JSON.parse(String(data)) as Frame;
        this.#take(frame);
        if (frame.messageId === 'hello') resolve();
      });
    });
  }

  #take(frame: Frame): void {
    this.cursor = frame.cursor;
    const postId = Number(frame.payload.postId);
    switch (frame.messageId) {
      case 'hello':
        this.hellos.push(frame);
        break;
      case 'post':
        this.posts.push(postId);
        this.texts.set(postId, String(frame.payload.postText));
        break;
      case 'edited':
        this.edits.push({ postId, version: Number(frame.payload.version) });
        if (this.texts.has(postId)) this.texts.set(postId, String(frame.payload.postText));
        break;
      case 'deleted':
        this.deleted.push(postId);
        this.texts.delete(postId);
    }
    this.onFrame(frame);
  }

  /** Closes the socket. Resolves when the server has closed too, after the last frame. */
  async close(): Promise<void> {
    const socket = this.#socket;
    if (!socket || socket.readyState === WebSocket.CLOSED) return;
    const closed = new Promise((done) => socket.once('close', done));
    socket.close();
    await closed;
  }

  /** Stays connected, to any of the gateways, until `stop`. Resolves at the first hello. */
  async stay(urls: () => readonly string[]): Promise<void> {
    const connect = async () => {
      for (let tries = 0; !this.#stopped; tries += 1) {
        const all = urls();
        try {
          await this.open(all[(this.userId + tries) % all.length]!);
          return;
        } catch {
          await sleep(20 + Math.random() * 100);
        }
      }
    };
    await connect();
    this.#following = (async () => {
      while (!this.#stopped) {
        const socket = this.socket;
        if (socket.readyState !== WebSocket.CLOSED) await new Promise((done) => socket.once('close', done));
        await connect();
      }
    })();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    this.#socket?.terminate();
    await this.#following;
  }
}
