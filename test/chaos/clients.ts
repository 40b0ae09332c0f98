import { setTimeout as sleep } from 'node:timers/promises';
import { Random } from '../properties/random.ts';
import { FeedClient } from '../support/feedClient.ts';
import type { Frame } from '../support/liveSocket.ts';
import type {
  Create,
  Delete,
  Edit,
  FollowChange,
  History,
  Item,
  Operation,
  Outcome,
  Read,
} from './history.ts';

/** A request without an answer within this time has an unknown outcome. */
const REQUEST_TIMEOUT_MS = 5_000;
/** A client gives up a request after so many attempts, at one gateway after the other. */
const ATTEMPTS = 8;
const BACKOFF_MS = 100;
const PAGE_LIMITS = [20, 100, 1_000];

interface Action {
  readonly do: Operation['do'];
  readonly weight: number;
}

const ACTIONS: readonly Action[] = [
  { do: 'create', weight: 10 },
  { do: 'edit', weight: 2 },
  { do: 'delete', weight: 2 },
  { do: 'follow', weight: 3 },
  { do: 'unfollow', weight: 3 },
  { do: 'read', weight: 6 },
];

interface Answer {
  readonly outcome: Outcome;
  /** An attempt before this one got no answer. */
  readonly retried?: boolean;
  readonly body?: unknown;
  readonly degraded?: boolean;
  readonly why?: string;
}

export interface ClientOptions {
  readonly gateways: readonly string[];
  /** The gateways that a load balancer sends requests to. Sockets go to all. */
  readonly balanced: () => readonly string[];
  readonly history: History;
  readonly now: () => number;
  readonly seed: number;
  /** Mean pause between two requests of one user, in milliseconds. */
  readonly paceMs: number;
  /** Maximum milliseconds that a frame which arrives now has been under way. */
  readonly flightMs: () => number;
}

/** A user: one request at a time, and a socket that is opened again with its cursor. */
export class Client {
  readonly user: number;
  readonly #options: ClientOptions;
  readonly #random: Random;
  readonly #socket: RecordingSocket;
  readonly #follows: Set<number>;
  readonly #posts: { readonly key: string; readonly id: string; isDoubtful: boolean }[] = [];
  #count = 0;
  #stopped = false;
  #running: Promise<void> | undefined;

  constructor(user: number, token: string, options: ClientOptions) {
    this.user = user;
    this.#options = options;
    this.#random = new Random(options.seed ^ Math.imul(user, 2_654_435_761));
    this.#socket = new RecordingSocket(user, token, options);
    this.#follows = new Set(
      options.history.followsBefore.filter(([follower]) => follower === user).map(([, followee]) => followee),
    );
  }

  /** Opens the socket. Resolves at the first hello. */
  connect(): Promise<void> {
    return this.#socket.stay(() => this.#options.gateways);
  }

  /** Begins to send requests, until `pause`. */
  start(): void {
    this.#stopped = false;
    this.#running = (async () => {
      while (!this.#stopped) {
        await sleep(-Math.log(1 - this.#random.next()) * this.#options.paceMs);
        if (!this.#stopped) await this.#act();
      }
    })();
  }

  /** Ends the requests, after the one that runs. The socket stays open. */
  async pause(): Promise<void> {
    this.#stopped = true;
    await this.#running;
  }

  async close(): Promise<void> {
    await this.pause();
    await this.#socket.stop();
  }

  /** Reads the whole feed at one gateway. Throws if it cannot be read, or may be old. */
  readonly feedAt = async (gateway: string, limit: number): Promise<Item[]> => {
    const response = await this.#fetch(gateway, 'GET', `/post/feed?limit=${limit}`, undefined, {}, 60_000);
    if (!response.ok) throw new Error(`${gateway} answered ${response.status}`);
    if (response.headers.has('cache-status')) throw new Error(`${gateway} has no database`);
    return itemsOf(await response.json());
  };

  async #act(): Promise<void> {
    const { do: kind } = this.#random.weighted(ACTIONS);
    switch (kind) {
      case 'create':
        return this.#create();
      case 'edit':
      case 'delete':
        return this.#change(kind);
      case 'follow':
      case 'unfollow':
        return this.#changeFollow();
      case 'read':
        return this.#read();
    }
  }

  #begin<T extends Operation>(one: Partial<T> & Pick<T, 'do'>): T {
    const operation = {
      ...one,
      user: this.user,
      start: this.#options.now(),
      end: Number.POSITIVE_INFINITY,
      outcome: 'unknown',
      retried: false,
    } as unknown as T;
    this.#options.history.operations.push(operation);
    return operation;
  }

  #finish(operation: Operation, { outcome, retried = false, why }: Answer): void {
    operation.end = this.#options.now();
    operation.outcome = outcome;
    operation.retried = retried;
    if (why !== undefined) operation.why = why;
  }

  async #create(): Promise<void> {
    this.#count += 1;
    const key = `${this.user}/${this.#count}`;
    const text = `${key} first`;
    const operation = this.#begin<Create>({ do: 'create', key, text });
    const answer = await this.#request('POST', '/post/create', { text }, { 'idempotency-key': key });
    this.#finish(operation, answer);
    if (answer.outcome !== 'ok') return;
    const { id } = answer.body as { id: string };
    operation.postId = Number(id);
    this.#posts.push({ key, id, isDoubtful: false });
  }

  /** Edits or deletes a post of this user. One with an unanswered request is left alone. */
  async #change(kind: 'edit' | 'delete'): Promise<void> {
    const known = this.#posts.filter(({ isDoubtful }) => !isDoubtful);
    if (known.length === 0) return;
    const post = this.#random.pick(known);
    this.#count += 1;
    const text = `${post.key} edit ${this.#count}`;
    const operation =
      kind === 'edit'
        ? this.#begin<Edit>({ do: 'edit', key: post.key, text })
        : this.#begin<Delete>({ do: 'delete', key: post.key });
    if (kind === 'delete') this.#posts.splice(this.#posts.indexOf(post), 1);
    const answer =
      kind === 'edit'
        ? await this.#request('PUT', '/post/update', { id: post.id, text })
        : await this.#request('PUT', `/post/delete/${post.id}`);
    // An attempt without an answer may have deleted it.
    const isDeleted = kind === 'delete' && answer.retried && answer.why?.startsWith('404');
    this.#finish(operation, isDeleted ? { outcome: 'ok', retried: true } : answer);
    if (answer.outcome !== 'ok' || answer.retried) post.isDoubtful = true;
  }

  async #changeFollow(): Promise<void> {
    const others = this.#options.history.users.filter((user) => user !== this.user);
    const followee = this.#random.pick(others);
    const kind = this.#follows.has(followee) ? 'unfollow' : 'follow';
    const operation = this.#begin<FollowChange>({ do: kind, followee });
    const path = kind === 'follow' ? 'set' : 'delete';
    const answer = await this.#request('PUT', `/friend/${path}/${followee}`);
    this.#finish(operation, answer);
    if (answer.outcome !== 'ok') return;
    if (kind === 'follow') this.#follows.add(followee);
    else this.#follows.delete(followee);
  }

  async #read(): Promise<void> {
    const limit = this.#random.pick(PAGE_LIMITS);
    const gateway = this.#random.pick(this.#options.balanced());
    const operation = this.#begin<Read>({
      do: 'read',
      gateway: String(this.#options.gateways.indexOf(gateway)),
      limit,
      items: [],
      degraded: false,
    });
    const answer = await this.#once(gateway, 'GET', `/post/feed?limit=${limit}`);
    if (answer.outcome === 'ok') operation.items = itemsOf(answer.body);
    operation.degraded = answer.degraded ?? false;
    this.#finish(operation, answer);
  }

  async #request(
    method: string,
    path: string,
    body?: object,
    headers?: Record<string, string>,
  ): Promise<Answer> {
    const gateways = this.#options.balanced();
    const first = this.#random.below(gateways.length);
    let retried = false;
    for (let attempt = 0; ; attempt += 1) {
      const gateway = gateways[(first + attempt) % gateways.length]!;
      const answer = await this.#once(gateway, method, path, body, headers);
      if (answer.outcome !== 'unknown' || attempt + 1 >= ATTEMPTS) return { ...answer, retried };
      retried = true;
      await sleep(BACKOFF_MS * (attempt + 1));
    }
  }

  async #once(
    gateway: string,
    method: string,
    path: string,
    body?: object,
    headers?: Record<string, string>,
  ): Promise<Answer> {
    try {
      const response = await this.#fetch(gateway, method, path, body, headers);
      const text = await response.text();
      const degraded = response.headers.has('cache-status');
      if (response.ok) return { outcome: 'ok', body: text ? JSON.parse(text) : undefined, degraded };
      // A refusal is an answer. After a failure of the server, the change may have been made.
      const outcome = response.status < 500 && response.status !== 429 ? 'refused' : 'unknown';
      return { outcome, why: `${response.status} ${text}` };
    } catch (error) {
      return { outcome: 'unknown', why: String(error) };
    }
  }

  #fetch(
    gateway: string,
    method: string,
    path: string,
    body?: object,
    headers: Record<string, string> = {},
    timeoutMs = REQUEST_TIMEOUT_MS,
  ): Promise<Response> {
    return fetch(new URL(path, gateway), {
      method,
      signal: AbortSignal.timeout(timeoutMs),
      headers: {
        authorization: `Bearer ${this.#socket.token}`,
        ...(body && { 'content-type': 'application/json' }),
        ...headers,
      },
      ...(body && { body: JSON.stringify(body) }),
    });
  }
}

/** A socket whose frames are noted with the session that they came in. */
class RecordingSocket extends FeedClient {
  readonly #options: ClientOptions;
  #session = 0;
  #gateway = '';
  #opened = 0;

  constructor(user: number, token: string, options: ClientOptions) {
    super(user, token);
    this.#options = options;
    this.onFrame = (frame) => this.#note(frame);
  }

  override open(url: string, after?: string): Promise<void> {
    this.#session += 1;
    this.#gateway = url;
    this.#opened = this.#options.now();
    return super.open(url, after ?? this.cursor);
  }

  #note({ messageId, payload }: Frame): void {
    const item = itemOf(payload);
    const at = this.#options.now();
    this.#options.history.received.push({
      user: this.userId,
      session: this.#session,
      gateway: this.#gateway,
      opened: this.#opened,
      at,
      sent: at - this.#options.flightMs(),
      kind: messageId,
      ...(messageId === 'hello' && { recovered: payload.recovered !== false }),
      ...(messageId === 'deleted' && { postId: Number(payload.postId) }),
      ...(item && { item }),
    });
  }
}

function itemOf(payload: Readonly<Record<string, unknown>>): Item | undefined {
  const { postId, author_user_id: author, postText } = payload;
  if (typeof postText !== 'string') return undefined;
  return { id: Number(postId), author: Number(author), text: postText };
}

function itemsOf(body: unknown): Item[] {
  const rows = body as { id: string; text: string; author_user_id: string }[];
  return rows.map(({ id, text, author_user_id: author }) => ({
    id: Number(id),
    author: Number(author),
    text,
  }));
}
