import type { FastifyInstance } from 'fastify';

interface Known {
  /** Segments of the route's pattern. */
  readonly segments: readonly string[];
  readonly methods: string[];
  /** The route is of the API: neither for monitoring nor for operators. */
  readonly api: boolean;
}

/** Methods of the routes of a server, by path. */
export class KnownPaths {
  readonly #known = new Map<string, Known>();

  /** Notes the routes that are added from now on. */
  watch(app: Pick<FastifyInstance, 'addHook'>): void {
    app.addHook('onRoute', ({ url, method, config }) => {
      const known = this.#known.get(url) ?? {
        segments: url.split('/'),
        methods: [],
        api: !config?.unlimited && !config?.operator,
      };
      this.#known.set(url, known);
      for (const one of [method].flat()) if (!known.methods.includes(one)) known.methods.push(one);
    });
  }

  /** Returns the methods that a path takes, in alphabetical order; empty for an unknown path. */
  methodsOf(url: string, options: { apiOnly?: boolean } = {}): string[] {
    const segments = url.split('?')[0]!.split('/');
    const known = [...this.#known.values()].filter(
      (route) => (route.api || !options.apiOnly) && matches(route.segments, segments),
    );
    return [...new Set(known.flatMap(({ methods }) => methods))].sort();
  }
}

const matches = (pattern: readonly string[], segments: readonly string[]): boolean =>
  pattern.length === segments.length &&
  pattern.every((part, i) => (part.startsWith(':') ? segments[i] !== '' : part === segments[i]));
