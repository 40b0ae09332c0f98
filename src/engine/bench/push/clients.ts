// Process of `bench push` and `bench crowd`: sockets and posts of users, outside the gateway's process.
import { setTimeout as sleep } from 'node:timers/promises';
import { WebSocket } from 'ws';
import { runConcurrently } from '../../util/parallel.ts';
import { answerParent } from './answering.ts';
import { type ClientCalls, type Frames, machineNow, type Posted, stampedText, stampOf } from './protocol.ts';

/** Sockets that are opened at the same time. */
const OPEN_CONCURRENCY = 64;
const HELLO = '{"messageId":"hello"';
const POST = '{"messageId":"post"';

class SocketSet {
  readonly sockets: WebSocket[] = [];
  #closing = false;
  #closed = 0;
  #counted = this.#nothing();
  #waiting: { count: number; done: () => void } | undefined;

  #nothing(): {
    frames: number;
    firstAt: number;
    lastAt: number;
    latencyMs: number[];
    sample: string | null;
  } {
    return { frames: 0, firstAt: 0, lastAt: 0, latencyMs: [], sample: null };
  }

  /** Resolves when the hello arrives. */
  open(url: string, token: string): Promise<void> {
    const address = `${url.replace(/^http/, 'ws')}/post/feed/posted?token=${encodeURIComponent(token)}`;
    const socket = new WebSocket(address, { perMessageDeflate: false });
    this.sockets.push(socket);
    return new Promise((resolve, reject) => {
      socket.on('error', reject);
      socket.on('close', (code) => {
        if (!this.#closing) this.#closed += 1;
        reject(new Error(`closed with ${code} before the hello`));
      });
      socket.on('message', (data) => {
        const text = String(data);
        if (text.startsWith(POST)) this.#count(text);
        else if (text.startsWith(HELLO)) resolve();
      });
    });
  }

  #count(text: string): void {
    const now = machineNow();
    const counted = this.#counted;
    if (counted.frames === 0) counted.firstAt = now;
    counted.frames += 1;
    counted.lastAt = now;
    counted.latencyMs.push(now - stampOf(text));
    counted.sample ??= text;
    if (this.#waiting && counted.frames >= this.#waiting.count) this.#waiting.done();
  }

  async frames(count: number, timeoutMs: number): Promise<Frames> {
    if (this.#counted.frames < count) {
      const enough = new AbortController();
      this.#waiting = { count, done: () => enough.abort() };
      await sleep(timeoutMs, undefined, { signal: enough.signal }).catch(() => {});
      this.#waiting = undefined;
    }
    const counted = this.#counted;
    this.#counted = this.#nothing();
    return counted;
  }

  /** Returns the number of sockets that the server had closed before. */
  async close(): Promise<number> {
    this.#closing = true;
    const open = this.sockets.filter((socket) => socket.readyState !== WebSocket.CLOSED);
    await Promise.all(
      open.map((socket) => {
        const closed = new Promise((done) => socket.once('close', done));
        socket.close();
        return closed;
      }),
    );
    return this.#closed;
  }
}

const sets = new Map<string, SocketSet>();

/** Makes posts and counts the answers. */
class Poster {
  readonly #url: string;
  readonly requestMs: number[] = [];
  posts = 0;
  errors = 0;
  firstError: string | null = null;

  constructor(url: string) {
    this.#url = `${url}/post/create`;
  }

  async post(token: string): Promise<void> {
    this.posts += 1;
    const startedAt = machineNow();
    try {
      const response = await fetch(this.#url, {
        method: 'POST',
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
        body: JSON.stringify({ text: stampedText() }),
      });
      const text = await response.text();
      if (response.status !== 201) throw new Error(`HTTP ${response.status} ${text.slice(0, 200)}`);
      this.requestMs.push(machineNow() - startedAt);
    } catch (error) {
      this.errors += 1;
      this.firstError ??= String((error as Error).cause ?? error);
    }
  }

  result(): Posted {
    const { posts, errors, firstError, requestMs } = this;
    return { posts, errors, firstError, requestMs };
  }
}

answerParent<ClientCalls>({
  async open({ set: name, url, tokens }) {
    const set = sets.get(name) ?? new SocketSet();
    sets.set(name, set);
    await runConcurrently(tokens, OPEN_CONCURRENCY, (token) => set.open(url, token));
    return { opened: tokens.length };
  },
  async close({ set: name }) {
    const closed = (await sets.get(name)?.close()) ?? 0;
    sets.delete(name);
    return { closed };
  },
  async frames({ set, count, timeoutMs }) {
    return (sets.get(set) ?? new SocketSet()).frames(count, timeoutMs);
  },
  async postAtRate({ url, tokens, perSecond, seconds }) {
    const poster = new Poster(url);
    const posting: Promise<void>[] = [];
    const startedAt = machineNow();
    for (let n = 0; n < perSecond * seconds; n += 1) {
      const dueIn = startedAt + (n * 1000) / perSecond - machineNow();
      if (dueIn > 0) await sleep(dueIn);
      posting.push(poster.post(tokens[n % tokens.length]!));
    }
    await Promise.all(posting);
    return poster.result();
  },
  async postAsPeople({ url, tokens, thinkMs, seconds }) {
    const poster = new Poster(url);
    const end = machineNow() + seconds * 1000;
    await Promise.all(
      tokens.map(async (token) => {
        for (;;) {
          const until = machineNow() + Math.random() * 2 * thinkMs;
          if (until >= end) return;
          await sleep(until - machineNow());
          await poster.post(token);
        }
      }),
    );
    return poster.result();
  },
});
