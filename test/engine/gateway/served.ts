import type { FeedCache } from '../../../src/engine/cache/cache.ts';
import type { Gateway, GatewayOptions } from '../../../src/engine/gateway/gateway.ts';
import { signToken } from '../../../src/engine/gateway/tokens.ts';
import { type TestCluster, testCluster } from '../../support/cluster.ts';
import { cachedGateway } from '../../support/gateways.ts';

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  // biome-ignore lint/suspicious/noExplicitAny: depends on the route
  readonly body: any;
}

interface Request {
  readonly token?: string | undefined;
  readonly body?: unknown;
  readonly headers?: Record<string, string>;
}

/** Sends one request with a JSON body, or without a body. */
export async function ask(url: string, method: string, path: string, request: Request = {}): Promise<Answer> {
  const { token, body } = request;
  const headers = {
    ...(token && { authorization: `Bearer ${token}` }),
    ...(body !== undefined && { 'content-type': 'application/json' }),
    ...request.headers,
  };
  const init = { method, headers, ...(body !== undefined && { body: JSON.stringify(body) }) };
  const response = await fetch(url + path, init);
  const text = await response.text();
  const json = /json/.test(response.headers.get('content-type') ?? '');
  return { status: response.status, headers: response.headers, body: json ? JSON.parse(text) : text };
}

export interface Served {
  readonly cluster: TestCluster;
  readonly cache: FeedCache;
  readonly gateway: Gateway;
  readonly url: string;
  tokenOf(userId: number): Promise<string>;
  ask(method: string, path: string, request?: Request): Promise<Answer>;
}

/** Starts a gateway on a fresh database, or on the given cluster. */
export async function served(options: Partial<GatewayOptions> = {}, cluster?: TestCluster): Promise<Served> {
  const on = cluster ?? (await testCluster());
  const { gateway, cache } = await cachedGateway(on, options);
  return {
    cluster: on,
    cache,
    gateway,
    url: gateway.url,
    tokenOf: (userId) => signToken(on.db, userId),
    ask: (method, path, request) => ask(gateway.url, method, path, request),
  };
}
