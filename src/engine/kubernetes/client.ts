import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { KubeConfig } from '@kubernetes/client-node';
import type { Dispatcher } from 'undici';
import { FeedctlError, isFeedctlError, messageOf } from '../model/errors.ts';
import { apiError, KubeError, unreachable } from './errors.ts';
import { groupOf, type KubeObject } from './object.ts';

/** Where feedctl runs unless something says otherwise: as the overlay prod has it. */
export const DEFAULT_NAMESPACE = 'feedctl';

/** The field manager of what `cluster apply` owns. */
export const FIELD_MANAGER = 'feedctl';
/** Of what `worker scale` and `worker restart` change: an apply that would undo it meets a conflict, and says so. */
export const OPERATOR_MANAGER = 'feedctl-operator';

/** Where Kubernetes puts what a pod's service account is. */
const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';

/** The namespace of the pod that this runs in; undefined elsewhere, and in pods that get no token. */
export async function namespaceOfPod(directory = SERVICE_ACCOUNT): Promise<string | undefined> {
  const read = (name: string) => readFile(join(directory, name), 'utf8').catch(() => '');
  const [token, namespace] = [await read('token'), await read('namespace')];
  return token ? namespace.trim() || undefined : undefined;
}

const ANSWER_MS = 30_000;
/** A token from a file or a plugin is asked for again; the client keeps those that are still good. */
const CREDENTIALS_MS = 30_000;
/** A list that is longer comes in pages. */
const PAGE = 500;
const TRIES = 3;

/** How a change is written. An object without its content type would be taken for a JSON patch, and refused. */
const CONTENT_TYPES = {
  apply: 'application/apply-patch+yaml',
  merge: 'application/merge-patch+json',
  strategic: 'application/strategic-merge-patch+json',
} as const;

export interface ApiResource {
  /** deployments */
  readonly name: string;
  readonly namespaced: boolean;
}

interface Credentials {
  readonly headers: Record<string, string>;
  readonly dispatcher: Dispatcher | undefined;
  readonly at: number;
}

type Query = Readonly<Record<string, string | number | boolean | undefined>>;

export interface KubeOptions {
  /** A context of the kubeconfig; its current one otherwise. */
  readonly kubeContext?: string | undefined;
  /** That of the kubeconfig's context otherwise. */
  readonly namespace?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** The API of a Kubernetes cluster. Each call throws a KUBE_ code of `failure.ts`. */
export interface Kubernetes {
  /** https://… */
  readonly server: string;
  /** The one that was asked for, or that of the kubeconfig's context or of the pod. */
  readonly namespace: string | undefined;
  readonly signal: AbortSignal | undefined;
  get<T = KubeObject>(path: string, query?: Query): Promise<T>;
  /** Undefined where it is not there. */
  find<T = KubeObject>(path: string): Promise<T | undefined>;
  /** Whether it is there, without reading what it holds. */
  exists(path: string): Promise<boolean>;
  list<T = KubeObject>(path: string, query?: Query, options?: { accept?: string }): Promise<T[]>;
  /** The path of an object, or of its subresource. Throws KUBE_KIND_UNKNOWN. */
  pathOf(object: KubeObject, namespace: string): Promise<string>;
  /** Server-side apply. */
  apply(path: string, object: KubeObject, options: { force: boolean; dryRun: boolean }): Promise<KubeObject>;
  patch(
    path: string,
    type: 'merge' | 'strategic',
    body: object,
    options?: { dryRun?: boolean },
  ): Promise<KubeObject>;
  /** Throws KUBE_CONFLICT where `uid` is that of another object of the name. */
  delete(path: string, only?: { uid: string }): Promise<void>;
  close(): Promise<void>;
}

/**
 * Reads the kubeconfig (KUBECONFIG, else ~/.kube/config), or in a pod its service account. The credentials, plugins and TLS are
 * the client library's; requests are not, as its models leave out every field that they do not know. Throws
 * KUBE_CONFIG_INVALID.
 */
export async function openKubernetes(options: KubeOptions = {}): Promise<Kubernetes> {
  // Half a second of generated models: only where they are needed.
  const { HttpMethod, KubeConfig, RequestContext } = await import('@kubernetes/client-node');
  const { request } = await import('undici');
  let config = readConfig(new KubeConfig(), options.kubeContext);
  const cluster = config.getCurrentCluster()!;
  // Who goes to another context meanwhile does not take this along.
  const kubeContext = config.getCurrentContext();
  const { signal } = options;
  let credentials: Credentials | undefined;
  let authenticating: Promise<void> | undefined;
  const authenticate = async () => {
    const context = new RequestContext(cluster.server, HttpMethod.GET);
    try {
      await config.applySecurityAuthentication(context);
    } catch (error) {
      throw new FeedctlError(
        'KUBE_UNAUTHORIZED',
        `no credentials for ${cluster.server}: ${messageOf(error).trim()}`,
        {
          cause: error,
        },
      );
    }
    // Each has connections of its own: those before are closed when what is under way on them has ended.
    void credentials?.dispatcher?.close();
    credentials = {
      headers: context.getHeaders(),
      dispatcher: context.getDispatcher(),
      at: performance.now(),
    };
  };
  /** Makes sure that there are credentials, others than `refused`. Where many ask at once, a plugin runs once. */
  const authenticated = async (refused: Credentials | undefined) => {
    const good =
      credentials &&
      credentials !== refused &&
      performance.now() - credentials.at < CREDENTIALS_MS &&
      !authenticating;
    if (good) return;
    if (!authenticating) {
      // What a plugin said, and the file of a token, are remembered by the configuration that asked them.
      if (credentials && credentials === refused) {
        const again = readConfig(new KubeConfig(), kubeContext);
        if (again.getCurrentCluster()!.server === cluster.server) config = again;
      }
      authenticating = authenticate().finally(() => {
        authenticating = undefined;
      });
    }
    await authenticating;
  };

  /** One request. */
  const call = async (
    method: 'GET' | 'PATCH' | 'DELETE',
    path: string,
    given: { query?: Query | undefined; body?: object; type?: string; accept?: string } = {},
  ): Promise<unknown> => {
    const url = new URL(cluster.server + path);
    for (const [name, value] of Object.entries(given.query ?? {}))
      if (value !== undefined) url.searchParams.set(name, String(value));
    let refused: Credentials | undefined;
    for (let tried = 1; ; tried += 1) {
      await authenticated(refused);
      const used = credentials!;
      const { headers, dispatcher } = used;
      const deadline = AbortSignal.timeout(ANSWER_MS);
      let status: number;
      let text: string;
      let retryAfter: string | undefined;
      try {
        const response = await request(url, {
          method,
          ...(dispatcher && { dispatcher }),
          signal: signal ? AbortSignal.any([signal, deadline]) : deadline,
          headers: {
            ...headers,
            accept: given.accept ?? 'application/json',
            ...(given.type && { 'content-type': given.type }),
          },
          ...(given.body && { body: JSON.stringify(given.body) }),
        });
        status = response.statusCode;
        retryAfter = String(response.headers['retry-after'] ?? '');
        text = await response.body.text();
      } catch (error) {
        if (signal?.aborted) throw error;
        throw unreachable(cluster.server, error, deadline.aborted);
      }
      if (status < 300) return parsed(text, cluster.server);
      // The server sheds load, and says for how long.
      if (status === 429 && tried < TRIES && Number(retryAfter) <= 5) {
        await sleep(Math.max(0.1, Number(retryAfter)) * 1_000, undefined, { signal });
        continue;
      }
      // A token that was exchanged before it was asked for again.
      if (status === 401 && !refused) {
        refused = used;
        continue;
      }
      throw apiError(status, text, { server: cluster.server, path });
    }
  };

  const resources = new Map<string, Promise<ReadonlyMap<string, ApiResource>>>();
  const resourcesOf = (apiVersion: string) => {
    const known = resources.get(apiVersion);
    if (known) return known;
    const asked = call('GET', rootOf(apiVersion)).then((list) => {
      const { resources: rows } = list as { resources: (ApiResource & { kind: string })[] };
      return new Map(rows.filter(({ name }) => !name.includes('/')).map((row) => [row.kind, row] as const));
    });
    resources.set(apiVersion, asked);
    asked.catch(() => resources.delete(apiVersion));
    return asked;
  };

  const kubernetes: Kubernetes = {
    server: cluster.server,
    namespace:
      options.namespace ?? config.getContextObject(config.getCurrentContext())?.namespace ?? undefined,
    signal,
    get: async <T>(path: string, query?: Query) => (await call('GET', path, { query })) as T,
    find: async <T>(path: string) => {
      try {
        return (await call('GET', path)) as T;
      } catch (error) {
        if (isFeedctlError(error, 'KUBE_NOT_FOUND') || isFeedctlError(error, 'KUBE_NAMESPACE_MISSING'))
          return undefined;
        throw error;
      }
    },
    async exists(path) {
      const accept = 'application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1';
      try {
        await call('GET', path, { accept });
        return true;
      } catch (error) {
        if (isFeedctlError(error, 'KUBE_NOT_FOUND') || isFeedctlError(error, 'KUBE_NAMESPACE_MISSING'))
          return false;
        throw error;
      }
    },
    async list<T>(path: string, query?: Query, options?: { accept?: string }) {
      const read = async (part: Query) =>
        (await call('GET', path, { query: { ...query, ...part }, accept: options?.accept })) as {
          /** Null where a list of bare metadata is empty. */
          items: T[] | null;
          metadata?: { continue?: string };
        };
      const items: T[] = [];
      for (let next: string | undefined; ; ) {
        let page: Awaited<ReturnType<typeof read>>;
        try {
          page = await read({ limit: PAGE, continue: next });
        } catch (error) {
          // Pages are of one moment, which the server has forgotten: all of it at once then.
          if (next && error instanceof KubeError && error.status === 410) return (await read({})).items ?? [];
          throw error;
        }
        items.push(...(page.items ?? []));
        next = page.metadata?.continue || undefined;
        if (!next) return items;
      }
    },
    async pathOf({ apiVersion, kind, metadata }, namespace) {
      let found: ApiResource | undefined;
      try {
        found = (await resourcesOf(apiVersion)).get(kind);
        // It may come: with a definition that is applied, or with the server behind an aggregated API.
        if (!found) resources.delete(apiVersion);
      } catch (error) {
        if (!isFeedctlError(error, 'KUBE_NOT_FOUND')) throw error;
      }
      if (!found)
        throw new FeedctlError('KUBE_KIND_UNKNOWN', `${cluster.server} knows no ${kind} of ${apiVersion}`);
      const inside = found.namespaced ? `/namespaces/${namespace}` : '';
      return `${rootOf(apiVersion)}${inside}/${found.name}/${metadata.name}`;
    },
    apply: async (path, object, { force, dryRun }) =>
      (await call('PATCH', path, {
        type: CONTENT_TYPES.apply,
        body: object,
        query: {
          fieldManager: FIELD_MANAGER,
          fieldValidation: 'Strict',
          force,
          dryRun: dryRun ? 'All' : undefined,
        },
      })) as KubeObject,
    patch: async (path, type, body, { dryRun = false } = {}) =>
      (await call('PATCH', path, {
        type: CONTENT_TYPES[type],
        body,
        query: { fieldManager: OPERATOR_MANAGER, dryRun: dryRun ? 'All' : undefined },
      })) as KubeObject,
    async delete(path, only) {
      await call('DELETE', path, {
        type: 'application/json',
        body: {
          apiVersion: 'v1',
          kind: 'DeleteOptions',
          propagationPolicy: 'Background',
          ...(only && { preconditions: only }),
        },
      });
    },
    async close() {
      await credentials?.dispatcher?.close();
    },
  };
  return kubernetes;
}

const rootOf = (apiVersion: string): string =>
  groupOf(apiVersion) === '' ? `/api/${apiVersion}` : `/apis/${apiVersion}`;

/** The YAML library quotes the lines around a mistake, and there are secrets in them. */
function withoutExcerpt(error: unknown): string {
  const { reason, mark } = error as { reason?: string; mark?: { line: number; column: number } };
  return reason && mark ? `${reason} (line ${mark.line + 1}, column ${mark.column + 1})` : messageOf(error);
}

function readConfig(config: KubeConfig, context: string | undefined): KubeConfig {
  try {
    config.loadFromDefault();
  } catch (error) {
    throw new FeedctlError('KUBE_CONFIG_INVALID', `the kubeconfig cannot be read: ${withoutExcerpt(error)}`);
  }
  // Without any, the library takes http://localhost:8080, which is nobody's cluster.
  if (config.getCurrentContext() === 'loaded-context')
    throw new FeedctlError(
      'KUBE_CONFIG_INVALID',
      'there is no kubeconfig: neither KUBECONFIG nor ~/.kube/config, and this is no pod',
    );
  if (context !== undefined) {
    const names = config.getContexts().map(({ name }) => name);
    if (!names.includes(context))
      throw new FeedctlError(
        'KUBE_CONFIG_INVALID',
        `the kubeconfig has no context ${JSON.stringify(context)}; it has ${names.join(', ') || 'none'}`,
      );
    config.setCurrentContext(context);
  }
  const current = config.getCurrentContext();
  if (!current || !config.getCurrentCluster() || !config.getCurrentUser())
    throw new FeedctlError(
      'KUBE_CONFIG_INVALID',
      current
        ? `the kubeconfig's context ${current} has no cluster or no user`
        : 'the kubeconfig has no current context',
    );
  return config;
}

function parsed(text: string, server: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new FeedctlError('KUBE_UNREACHABLE', `${server} answers with something that is no Kubernetes API`, {
      cause: error,
    });
  }
}
