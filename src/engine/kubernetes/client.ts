import { isFeedctlError } from '../model/errors.ts';
import { CredentialSource } from './credentials.ts';
import { KubeError } from './errors.ts';
import type { KubeObject } from './object.ts';
import { ApiRequests, type Query } from './request.ts';
import { ApiResources } from './resources.ts';

/** The namespace of the overlay prod, used if neither a flag nor the kubeconfig names one. */
export const DEFAULT_NAMESPACE = 'feedctl';

/** The field manager of `cluster apply`. */
export const FIELD_MANAGER = 'feedctl';
/**
 * The field manager of `worker scale` and `worker restart`: an apply that would revert them is a
 * conflict.
 */
const OPERATOR_MANAGER = 'feedctl-operator';

/** A longer list is read in pages of this many objects. */
const PAGE_SIZE = 500;

/**
 * Content types of a change. The API takes an object without its content type for a JSON patch, and
 * refuses it.
 */
const CONTENT_TYPES = {
  apply: 'application/apply-patch+yaml',
  merge: 'application/merge-patch+json',
  strategic: 'application/strategic-merge-patch+json',
} as const;

/** Asks for an object without its content. */
const METADATA_ONLY = 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1';

export interface KubeOptions {
  /** Default: the current context of the kubeconfig. */
  readonly kubeContext?: string | undefined;
  /** Default: the namespace of the kubeconfig's context, or of the pod. */
  readonly namespace?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

interface Page<T> {
  /** Null if a list of bare metadata is empty. */
  readonly items: T[] | null;
  readonly metadata?: { readonly continue?: string };
}

/**
 * Opens the API of the cluster in the kubeconfig. The client library provides credentials, plugins
 * and TLS only: its models drop every field that they do not know. Throws KUBE_CONFIG_INVALID.
 */
export async function openKubernetes(options: KubeOptions = {}): Promise<Kubernetes> {
  // The library takes half a second to load, so only commands that need it load it.
  const library = await import('@kubernetes/client-node');
  const { request } = await import('undici');
  const credentials = new CredentialSource(library, options.kubeContext);
  return new Kubernetes(credentials, new ApiRequests(credentials, request, options.signal), options);
}

/** The API of a Kubernetes cluster. Each call throws a KUBE_ code of `errors.ts`. */
export class Kubernetes {
  /** URL of the API server. */
  readonly server: string;
  /** Namespace of the options, of the kubeconfig's context, or of the pod. */
  readonly namespace: string | undefined;
  readonly signal: AbortSignal | undefined;
  readonly #credentials: CredentialSource;
  readonly #api: ApiRequests;
  readonly #resources: ApiResources;

  constructor(credentials: CredentialSource, api: ApiRequests, { namespace, signal }: KubeOptions) {
    this.server = credentials.server;
    this.namespace = namespace ?? credentials.namespace;
    this.signal = signal;
    this.#credentials = credentials;
    this.#api = api;
    this.#resources = new ApiResources(api);
  }

  async get<T = KubeObject>(path: string, query?: Query): Promise<T> {
    return (await this.#api.call('GET', path, { query })) as T;
  }

  /** Returns undefined if the object does not exist. */
  async find<T = KubeObject>(path: string): Promise<T | undefined> {
    return (await unlessMissing(this.#api.call('GET', path))) as T | undefined;
  }

  /** Does not read the content of the object, which may be secret. */
  async exists(path: string): Promise<boolean> {
    const found = await unlessMissing(this.#api.call('GET', path, { accept: METADATA_ONLY }));
    return found !== undefined;
  }

  async list<T = KubeObject>(path: string, query?: Query, options?: { accept?: string }): Promise<T[]> {
    const read = async (part: Query) =>
      (await this.#api.call('GET', path, {
        query: { ...query, ...part },
        accept: options?.accept,
      })) as Page<T>;
    const items: T[] = [];
    for (let next: string | undefined; ; ) {
      let page: Page<T>;
      try {
        page = await read({ limit: PAGE_SIZE, continue: next });
      } catch (error) {
        // Pages are of one revision. If the server has compacted it, the list is read as a whole.
        if (next && error instanceof KubeError && error.status === 410) return (await read({})).items ?? [];
        throw error;
      }
      items.push(...(page.items ?? []));
      next = page.metadata?.continue || undefined;
      if (!next) return items;
    }
  }

  /** Returns the path of an object. Throws KUBE_KIND_UNKNOWN. */
  pathOf(object: KubeObject, namespace: string): Promise<string> {
    return this.#resources.pathOf(object, namespace);
  }

  /** Server-side apply. */
  async apply(
    path: string,
    object: KubeObject,
    { force, dryRun }: { force: boolean; dryRun: boolean },
  ): Promise<KubeObject> {
    const query = { fieldManager: FIELD_MANAGER, fieldValidation: 'Strict', force, ...dryRunQuery(dryRun) };
    const options = { type: CONTENT_TYPES.apply, body: object, query };
    return (await this.#api.call('PATCH', path, options)) as KubeObject;
  }

  async patch(
    path: string,
    type: 'merge' | 'strategic',
    body: object,
    { dryRun = false }: { dryRun?: boolean } = {},
  ): Promise<KubeObject> {
    const query = { fieldManager: OPERATOR_MANAGER, ...dryRunQuery(dryRun) };
    return (await this.#api.call('PATCH', path, { type: CONTENT_TYPES[type], body, query })) as KubeObject;
  }

  /** Throws KUBE_CONFLICT if the object of this name has another `uid`. */
  async delete(path: string, preconditions?: { uid: string }): Promise<void> {
    const options = { propagationPolicy: 'Background', ...(preconditions && { preconditions }) };
    const body = { apiVersion: 'v1', kind: 'DeleteOptions', ...options };
    await this.#api.call('DELETE', path, { type: 'application/json', body });
  }

  async close(): Promise<void> {
    await this.#credentials.close();
  }
}

const dryRunQuery = (dryRun: boolean): Query => (dryRun ? { dryRun: 'All' } : {});

async function unlessMissing(found: Promise<unknown>): Promise<unknown> {
  try {
    return await found;
  } catch (error) {
    if (isFeedctlError(error, 'KUBE_NOT_FOUND') || isFeedctlError(error, 'KUBE_NAMESPACE_MISSING'))
      return undefined;
    throw error;
  }
}
