import { setTimeout as sleep } from 'node:timers/promises';
import type { request } from 'undici';
import { FeedctlError } from '../model/errors.ts';
import type { CredentialSource, Credentials } from './credentials.ts';
import { apiError, unreachable } from './errors.ts';

const TIMEOUT_MS = 30_000;
const MAX_ATTEMPTS = 3;
/** A server that asks for a longer pause is reported as unreachable. */
const MAX_RETRY_AFTER_S = 5;
const MIN_RETRY_AFTER_S = 0.1;

export type Query = Readonly<Record<string, string | number | boolean | undefined>>;

export interface RequestOptions {
  readonly query?: Query | undefined;
  readonly body?: object;
  /** Content type of `body`. */
  readonly type?: string;
  readonly accept?: string | undefined;
}

interface Response {
  readonly status: number;
  readonly text: string;
  /** 0 if the server names no time, NaN if it names a date. */
  readonly retryAfterS: number;
}

/** Sends requests to one API server. They throw a KUBE_ code of `errors.ts`. */
export class ApiRequests {
  readonly #credentials: CredentialSource;
  readonly #send: typeof request;
  readonly #signal: AbortSignal | undefined;

  constructor(credentials: CredentialSource, send: typeof request, signal: AbortSignal | undefined) {
    this.#credentials = credentials;
    this.#send = send;
    this.#signal = signal;
  }

  get server(): string {
    return this.#credentials.server;
  }

  /**
   * Returns the JSON of a response. Retries a throttled request, and once a request whose
   * credentials were refused.
   */
  async call(
    method: 'GET' | 'PATCH' | 'DELETE',
    path: string,
    options: RequestOptions = {},
  ): Promise<unknown> {
    const url = new URL(this.server + path);
    for (const [name, value] of Object.entries(options.query ?? {}))
      if (value !== undefined) url.searchParams.set(name, String(value));
    let refused: Credentials | undefined;
    for (let attempt = 1; ; attempt += 1) {
      const credentials = await this.#credentials.get(refused);
      const { status, text, retryAfterS } = await this.#exchange(method, url, credentials, options);
      if (status < 300) return parsed(text, this.server);
      if (status === 429 && attempt < MAX_ATTEMPTS && retryAfterS <= MAX_RETRY_AFTER_S) {
        const pauseMs = Math.max(MIN_RETRY_AFTER_S, retryAfterS) * 1_000;
        await sleep(pauseMs, undefined, { ...(this.#signal && { signal: this.#signal }) });
      } else if (status === 401 && !refused) {
        // The token may have been rotated since it was read.
        refused = credentials;
      } else throw apiError(status, text, { server: this.server, path });
    }
  }

  async #exchange(
    method: 'GET' | 'PATCH' | 'DELETE',
    url: URL,
    { headers, dispatcher }: Credentials,
    { body, type, accept = 'application/json' }: RequestOptions,
  ): Promise<Response> {
    const signal = this.#signal;
    const deadline = AbortSignal.timeout(TIMEOUT_MS);
    try {
      const response = await this.#send(url, {
        method,
        ...(dispatcher && { dispatcher }),
        signal: signal ? AbortSignal.any([signal, deadline]) : deadline,
        headers: { ...headers, accept, ...(type && { 'content-type': type }) },
        ...(body && { body: JSON.stringify(body) }),
      });
      const retryAfterS = Number(response.headers['retry-after'] ?? 0);
      return { status: response.statusCode, text: await response.body.text(), retryAfterS };
    } catch (error) {
      if (signal?.aborted) throw error;
      throw unreachable(this.server, error, deadline.aborted);
    }
  }
}

function parsed(text: string, server: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new FeedctlError('KUBE_UNREACHABLE', `the response of ${server} is no Kubernetes API`, {
      cause: error,
    });
  }
}
