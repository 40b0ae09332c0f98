import { Agent } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { expect, onTestFailed, onTestFinished, test } from 'vitest';
import { signOperatorToken } from '../../../src/engine/gateway/tokens.ts';
import { runConcurrently } from '../../../src/engine/util/parallel.ts';
import type { FeedClient } from '../../support/feedClient.ts';
import { testClient, UNLIMITED } from '../../support/gateways.ts';
import { type Draft, mutate, mutation, requestOf, validDraft } from './mutations.ts';
import { type Document, DocumentedAnswers } from './openapiDocument.ts';
import { send } from './rawRequest.ts';
import { type Served, served } from './served.ts';

/** Requests for each operation of the document; FEEDCTL_BODIES=1000 for a thorough run. */
const REQUESTS = Number(process.env.FEEDCTL_BODIES || 30);
const SEED = Number(process.env.FEEDCTL_SEED || Date.now() % 2 ** 31);
/** Operations that are tried at the same time. */
const AT_A_TIME = 4;
/** Pause of a client of the load between two requests. */
const PACE_MS = 20;

/** Clients that use the gateway as documented, and check each answer that they get. */
class Load {
  readonly #served: Served;
  readonly #authors: readonly number[];
  readonly #readers: readonly FeedClient[];
  readonly #posts = new Map<number, string>();
  #ended = false;
  #running: Promise<unknown> = Promise.resolve();

  private constructor(served: Served, authors: readonly number[], readers: readonly FeedClient[]) {
    this.#served = served;
    this.#authors = authors;
    this.#readers = readers;
  }

  static async start(served: Served): Promise<Load> {
    const { cluster, ask, url, tokenOf } = served;
    await cluster.startWorker();
    const [first, second, ...readers] = (await cluster.users(6)) as [number, number, ...number[]];
    const authors = [first, second];
    for (const reader of readers)
      for (const author of authors)
        expect(await ask('PUT', `/friend/set/${author}`, { token: await tokenOf(reader) })).toMatchObject({
          status: 200,
          body: { changed: true },
        });
    await cluster.settled();
    const clients = await Promise.all(readers.map((reader) => testClient(cluster, reader)));
    await Promise.all(clients.map((client) => client.open(url)));
    const load = new Load(served, authors, clients);
    load.#running = Promise.all([
      ...authors.map((author) => load.#post(author)),
      ...clients.map((client) => load.#read(client)),
    ]);
    load.#running.catch(() => {});
    return load;
  }

  get someIds(): string[] {
    return [...this.#authors, ...[...this.#posts.keys()].slice(0, 5)].map(String);
  }

  /** Resolves when each of the authors has so many posts. */
  async hasPosted(count: number): Promise<void> {
    await expect.poll(() => this.#posts.size).toBeGreaterThanOrEqual(count * this.#authors.length);
  }

  async #post(author: number): Promise<void> {
    const { ask, tokenOf } = this.#served;
    const token = await tokenOf(author);
    for (let i = 0; !this.#ended; i += 1) {
      const text = `post ${i} of ${author}`;
      const { status, body } = await ask('POST', '/post/create', { token, body: { text } });
      expect({ status, body }).toMatchObject({
        status: 201,
        body: { text, author_user_id: String(author), version: 1 },
      });
      this.#posts.set(Number(body.id), text);
      const shown = await ask('GET', `/post/get/${body.id}`);
      expect(shown).toMatchObject({ status: 200, body });
      await sleep(PACE_MS);
    }
  }

  async #read({ token }: FeedClient): Promise<void> {
    while (!this.#ended) {
      const { status, body } = await this.#served.ask('GET', '/post/feed?limit=10', { token });
      expect(status).toBe(200);
      const items = body as { id: string; author_user_id: string; text: string }[];
      const ids = items.map(({ id }) => Number(id));
      expect(ids).toEqual(ids.toSorted((a, b) => b - a));
      for (const { author_user_id: author, text } of items) {
        expect(this.#authors).toContain(Number(author));
        expect(text).toMatch(new RegExp(`^post \\d+ of ${author}$`));
      }
      await sleep(PACE_MS);
    }
  }

  /** Ends the load. Fails unless each socket got each post once, with its text, and no other frame. */
  async end(): Promise<number> {
    this.#ended = true;
    await this.#running;
    await this.#served.cluster.settled();
    for (const { posts, texts, edits, deleted, closes, isOpen } of this.#readers) {
      await expect.poll(() => posts.length).toBe(this.#posts.size);
      expect(texts).toEqual(this.#posts);
      expect({ edits, deleted, closes }).toEqual({ edits: [], deleted: [], closes: [] });
      expect(isOpen).toBe(true);
    }
    return this.#posts.size;
  }
}

/** Text that shows files or code of the server. */
const INTERNALS = /node_modules|\.(ts|js):\d+|\n\s+at /;

test('each answer to valid and mutated requests is documented, and clients beside them see nothing of it', {
  timeout: 900_000,
}, async () => {
  onTestFailed(() => void process.stderr.write(`FEEDCTL_SEED=${SEED}\n`));
  const gateway = await served({ limits: UNLIMITED });
  const { cluster, ask, url, tokenOf } = gateway;
  const agent = new Agent({ keepAlive: true, maxSockets: AT_A_TIME });
  onTestFinished(() => agent.destroy());
  const inherited = Reflect.ownKeys(Object.prototype);
  const load = await Load.start(gateway);
  await load.hasPosted(3);
  const [user] = (await cluster.users(1)) as [number];
  const token = await tokenOf(user);
  const own = await Promise.all(
    ['one', 'two', 'three'].map((text) => ask('POST', '/post/create', { token, body: { text } })),
  );
  const ids = [...load.someIds, String(user), ...own.map(({ body }) => String(body.id))];
  const document: Document = (await ask('GET', '/openapi.json')).body;
  const documented = new DocumentedAnswers(document);
  const tokens = [token, token, token, token, '', 'rubbish', await signOperatorToken(cluster.db)];
  const failures: string[] = [];
  const statuses = new Map<string, number>();
  const operations = Object.entries(document.paths).flatMap(([pattern, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ pattern, method, operation })),
  );
  await runConcurrently(operations, AT_A_TIME, async ({ pattern, method, operation }) => {
    const draft = fc.noShrink(fc.nat(2 ** 30)).map((seed): Draft => {
      return validDraft(method, operation, { seed, ids, tokens });
    });
    const property = fc.asyncProperty(draft, fc.array(mutation, { maxLength: 3 }), async (valid, changes) => {
      const changed = structuredClone(valid);
      for (const change of changes) mutate(changed, change);
      const request = requestOf(pattern, changed);
      const answer = await send(url, { ...request, agent });
      const what = `${request.method} ${request.path.slice(0, 200)} of ${pattern}`;
      documented.check(pattern, request.method, answer, `${what}: ${answer.text.slice(0, 300)}`);
      expect(answer.text, what).not.toMatch(INTERNALS);
      statuses.set(String(answer.status), (statuses.get(String(answer.status)) ?? 0) + 1);
    });
    const failed = await fc.check(property, { seed: SEED, numRuns: REQUESTS });
    if (failed.failed) failures.push(`${failed.errorInstance}\n${fc.defaultReportMessage(failed)}`);
  });
  expect(failures.join('\n\n')).toBe('');
  expect(Reflect.ownKeys(Object.prototype)).toEqual(inherited);
  for (const status of ['200', '201', '400', '401', '404', '405'])
    expect(Object.fromEntries(statuses), `no answer was ${status}`).toHaveProperty(status);
  expect(await load.end()).toBeGreaterThan(0);
});
