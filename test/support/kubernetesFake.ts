import { writeFile } from 'node:fs/promises';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { stringify } from 'yaml';

const PATCHES = [
  'application/apply-patch+yaml',
  'application/merge-patch+json',
  'application/strategic-merge-patch+json',
];

interface Answer {
  status: number;
  body?: object | string;
  headers?: Record<string, string>;
}

export interface Seen {
  readonly method: string;
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly type: string | undefined;
  readonly authorization: string | undefined;
  readonly accept: string | undefined;
  readonly body: unknown;
}

export interface KubernetesFake {
  readonly url: string;
  readonly seen: readonly Seen[];
  /** Returns the number of open connections. */
  connections(): Promise<number>;
  /** Sets the responses of the next requests to this path; the last one repeats. */
  answer(path: string, ...answers: Answer[]): void;
  /** `user` replaces the token. */
  kubeconfig(directory: string, user?: object): Promise<string>;
  close(): Promise<void>;
}

/** Returns the Status of a refusal. */
export const refusal = (code: number, reason: string, message: string, details: object = {}): Answer => ({
  status: code,
  body: { kind: 'Status', apiVersion: 'v1', status: 'Failure', code, reason, message, details },
});

/**
 * Starts a server that checks requests as an API server does (content types, field manager, dry
 * run, force) and answers what a test sets. It serves responses that a real server sends only in
 * trouble.
 */
export async function startKubernetesFake(): Promise<KubernetesFake> {
  const seen: Seen[] = [];
  const answers = new Map<string, Answer[]>();
  const server = createServer(async (request, response) => {
    const one = await read(request);
    seen.push(one);
    const fault = faultOf(one);
    const planned = answers.get(one.path);
    const answer: Answer = fault
      ? refusal(415, 'UnsupportedMediaType', fault)
      : ((planned && planned.length > 1 ? planned.shift() : planned?.[0]) ??
        refusal(404, 'NotFound', `nothing at ${one.path}`));
    const text =
      typeof answer.body === 'string'
        ? answer.body
        : JSON.stringify(bareWhereEmpty(one, answer.body ?? one.body ?? {}));
    response.writeHead(answer.status, { 'content-type': 'application/json', ...answer.headers }).end(text);
  }).listen(0, '127.0.0.1');
  await new Promise((done) => server.once('listening', done));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url,
    seen,
    connections: () =>
      new Promise((done, fail) => {
        server.getConnections((error, count) => (error ? fail(error) : done(count)));
      }),
    answer(path, ...given) {
      answers.set(path, given);
    },
    async kubeconfig(directory, user = { token: 'secret-token' }) {
      const path = join(directory, 'kubeconfig');
      await writeFile(
        path,
        stringify({
          apiVersion: 'v1',
          kind: 'Config',
          'current-context': 'fake',
          clusters: [{ name: 'fake', cluster: { server: url, 'insecure-skip-tls-verify': true } }],
          users: [{ name: 'me', user }],
          contexts: [{ name: 'fake', context: { cluster: 'fake', user: 'me', namespace: 'feeds' } }],
        }),
      );
      return path;
    },
    close: () =>
      new Promise((done) => {
        server.close(() => done());
        server.closeAllConnections();
      }),
  };
}

async function read(request: IncomingMessage): Promise<Seen> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const text = Buffer.concat(chunks).toString();
  const url = new URL(request.url!, 'http://fake');
  return {
    method: request.method!,
    path: url.pathname,
    query: Object.fromEntries(url.searchParams),
    type: request.headers['content-type'],
    authorization: request.headers.authorization,
    accept: request.headers.accept,
    body: text ? JSON.parse(text) : undefined,
  };
}

/** An empty list of bare metadata has null items. */
const bareWhereEmpty = ({ accept }: Seen, body: unknown): unknown =>
  accept?.includes('PartialObjectMetadataList') && (body as { items?: object[] }).items?.length === 0
    ? { ...(body as object), items: null }
    : body;

/** Returns the fault for which a real server refuses a request before it reads the object. */
function faultOf({ method, query, type, body }: Seen): string | undefined {
  if (query.dryRun !== undefined && query.dryRun !== 'All') return `dryRun is ${query.dryRun}`;
  if (method === 'DELETE' && body !== undefined) {
    if (type !== 'application/json') return `the content type of DeleteOptions is ${type}`;
    if ((body as { kind?: string }).kind !== 'DeleteOptions') return 'the body of a DELETE is DeleteOptions';
  }
  if (method !== 'PATCH') return undefined;
  if (type === undefined || !PATCHES.includes(type)) return `the content type of a patch is ${type}`;
  if (Array.isArray(body)) return 'a list is a JSON patch';
  if (!query.fieldManager) return 'there is no fieldManager';
  const apply = type === 'application/apply-patch+yaml';
  if (!apply && query.force !== undefined) return 'force is for apply alone';
  if (apply && query.force === undefined) return 'force is not said';
  return undefined;
}
