import type { KubeConfig } from '@kubernetes/client-node';
import type { Dispatcher } from 'undici';
import { FeedctlError, messageOf } from '../model/errors.ts';
import { loadKubeconfig } from './kubeconfig.ts';

/**
 * The client library evaluates credentials again after this time. It caches the tokens that are
 * still valid.
 */
const MAX_AGE_MS = 30_000;

/** The part of the client library that authenticates. */
type Library = Pick<typeof import('@kubernetes/client-node'), 'HttpMethod' | 'KubeConfig' | 'RequestContext'>;

export interface Credentials {
  readonly headers: Record<string, string>;
  /** Has the TLS settings of the cluster, and its own connections. */
  readonly dispatcher: Dispatcher | undefined;
  readonly readAt: number;
}

/**
 * Authenticates requests to the cluster of one kubeconfig context: tokens, certificates, plugins.
 */
export class CredentialSource {
  readonly server: string;
  /** Namespace of the context, or of the pod. */
  readonly namespace: string | undefined;
  readonly #library: Library;
  /** The name is fixed here: another context may become the current one while this runs. */
  readonly #context: string;
  #config: KubeConfig;
  #current: Credentials | undefined;
  #pending: Promise<void> | undefined;

  /** Throws KUBE_CONFIG_INVALID. */
  constructor(library: Library, context: string | undefined) {
    this.#library = library;
    this.#config = loadKubeconfig(new library.KubeConfig(), context);
    this.#context = this.#config.getCurrentContext();
    this.server = this.#config.getCurrentCluster()!.server;
    this.namespace = this.#config.getContextObject(this.#context)?.namespace || undefined;
  }

  /**
   * Returns credentials other than `refused`, which the server did not accept. Concurrent calls run
   * a plugin once. Throws KUBE_UNAUTHORIZED.
   */
  async get(refused?: Credentials): Promise<Credentials> {
    const current = this.#current;
    const fresh = current && performance.now() - current.readAt < MAX_AGE_MS;
    if (current && fresh && current !== refused && !this.#pending) return current;
    this.#pending ??= this.#renew(refused).finally(() => {
      this.#pending = undefined;
    });
    await this.#pending;
    return this.#current!;
  }

  async close(): Promise<void> {
    await this.#current?.dispatcher?.close();
  }

  async #renew(refused: Credentials | undefined): Promise<void> {
    if (this.#current && this.#current === refused) this.#reload();
    const { HttpMethod, RequestContext } = this.#library;
    const request = new RequestContext(this.server, HttpMethod.GET);
    try {
      await this.#config.applySecurityAuthentication(request);
    } catch (error) {
      const message = `no credentials for ${this.server}: ${messageOf(error).trim()}`;
      throw new FeedctlError('KUBE_UNAUTHORIZED', message, { cause: error });
    }
    // The old connections close when the requests in flight on them have ended.
    void this.#current?.dispatcher?.close();
    this.#current = {
      headers: request.getHeaders(),
      dispatcher: request.getDispatcher(),
      readAt: performance.now(),
    };
  }

  /**
   * Loads the kubeconfig again: a configuration caches the output of plugins and the content of
   * token files.
   */
  #reload(): void {
    const config = loadKubeconfig(new this.#library.KubeConfig(), this.#context);
    // Credentials of another cluster must not reach this one.
    if (config.getCurrentCluster()!.server === this.server) this.#config = config;
  }
}
