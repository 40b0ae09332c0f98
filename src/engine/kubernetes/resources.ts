import { FeedctlError, isFeedctlError } from '../model/errors.ts';
import { groupOf, type KubeObject } from './object.ts';
import type { ApiRequests } from './request.ts';

/** A kind as the API lists it. */
interface ApiResource {
  /** Plural of the kind in paths: deployments. */
  readonly name: string;
  readonly kind: string;
  readonly namespaced: boolean;
}

/** Finds the paths of objects. The kinds of a group and version are read once. */
export class ApiResources {
  readonly #api: ApiRequests;
  readonly #known = new Map<string, Promise<ReadonlyMap<string, ApiResource>>>();

  constructor(api: ApiRequests) {
    this.#api = api;
  }

  /** Returns the path of an object. Throws KUBE_KIND_UNKNOWN. */
  async pathOf({ apiVersion, kind, metadata }: KubeObject, namespace: string): Promise<string> {
    const resource = await this.#find(apiVersion, kind);
    if (!resource)
      throw new FeedctlError('KUBE_KIND_UNKNOWN', `${this.#api.server} serves no ${kind} of ${apiVersion}`);
    const inNamespace = resource.namespaced ? `/namespaces/${namespace}` : '';
    return `${rootOf(apiVersion)}${inNamespace}/${resource.name}/${metadata.name}`;
  }

  async #find(apiVersion: string, kind: string): Promise<ApiResource | undefined> {
    try {
      const resource = (await this.#kindsOf(apiVersion)).get(kind);
      // The kind may be served later: its definition may follow, or the server behind an aggregated
      // API.
      if (!resource) this.#known.delete(apiVersion);
      return resource;
    } catch (error) {
      if (isFeedctlError(error, 'KUBE_NOT_FOUND')) return undefined;
      throw error;
    }
  }

  #kindsOf(apiVersion: string): Promise<ReadonlyMap<string, ApiResource>> {
    const known = this.#known.get(apiVersion);
    if (known) return known;
    const kinds = this.#api.call('GET', rootOf(apiVersion)).then((list) => {
      const { resources } = list as { resources: ApiResource[] };
      // A name with a slash is a subresource.
      return new Map(resources.filter(({ name }) => !name.includes('/')).map((one) => [one.kind, one]));
    });
    this.#known.set(apiVersion, kinds);
    kinds.catch(() => this.#known.delete(apiVersion));
    return kinds;
  }
}

const rootOf = (apiVersion: string): string =>
  groupOf(apiVersion) === '' ? `/api/${apiVersion}` : `/apis/${apiVersion}`;
