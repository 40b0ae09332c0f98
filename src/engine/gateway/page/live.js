// The live connection: new posts, edits and deletions arrive on a WebSocket.
import { call, session } from './api.js';
import { $, setText } from './dom.js';
import * as feed from './feed.js';

const MIN_BACKOFF_MS = 500;
const MAX_BACKOFF_MS = 15_000;

export function showState(state, text) {
  $('state').dataset.state = state;
  setText($('state'), text);
}

/** The live connection of a login: opens a WebSocket, and another one when it is closed. */
export class Live {
  #stop = new AbortController();
  #failures = 0;
  #socket;
  #wake = () => {};
  #onExpired;

  /** `onExpired`: the token is no longer valid. */
  constructor(onExpired) {
    this.#onExpired = onExpired;
    // The network is back: connect without the backoff. It is lost: do not trust an open socket.
    addEventListener('online', () => this.#wake(), { signal: this.#stop.signal });
    addEventListener('offline', () => this.#socket?.close(), { signal: this.#stop.signal });
    void this.#run();
  }

  stop() {
    this.#stop.abort();
    this.#socket?.close();
    this.#wake();
  }

  async #run() {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      let backoffMs = Math.random() * Math.min(MAX_BACKOFF_MS, MIN_BACKOFF_MS * 2 ** this.#failures);
      showState('connecting', this.#failures > 0 ? 'reconnecting …' : 'connecting …');
      try {
        const { ticket } = await call('POST', '/ticket');
        if (signal.aborted) return;
        await this.#connected(ticket);
      } catch (error) {
        if (error.status === 401 && !signal.aborted) return this.#onExpired();
        backoffMs = Math.max(backoffMs, error.retryAfterMs || 0);
      }
      if (signal.aborted) return;
      this.#failures += 1;
      showState('waiting', `disconnected; trying again in ${Math.ceil(backoffMs / 1000)} s`);
      await new Promise((done) => {
        this.#wake = done;
        setTimeout(done, backoffMs);
      });
    }
  }

  /** Resolves when the socket is closed. */
  #connected(ticket) {
    const url = new URL('/post/feed/posted', location.href);
    url.protocol = url.protocol.replace('http', 'ws');
    url.searchParams.set('ticket', ticket);
    if (session.cursor) url.searchParams.set('after', session.cursor);
    const socket = new WebSocket(url);
    this.#socket = socket;
    return new Promise((closed) => {
      socket.onclose = closed;
      socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
    });
  }

  #take({ messageId, payload, cursor }) {
    if (this.#stop.signal.aborted) return;
    if (cursor) session.cursor = cursor;
    if (messageId === 'hello') {
      this.#failures = 0;
      showState('live', 'live');
      feed.beginConnection(payload.recovered !== false);
    } else if (messageId === 'post') {
      const { postId, postText, author_user_id, createdAt } = payload;
      feed.add({ id: postId, text: postText, author_user_id, createdAt }, true);
    } else if (messageId === 'edited') {
      feed.edit(payload.postId, payload.postText);
    } else if (messageId === 'deleted') {
      feed.remove(payload.postId);
    }
  }
}
