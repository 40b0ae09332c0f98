import { FeedctlError } from '../../model/errors.ts';
import { ClusterSnapshot } from './clusterSchemas.ts';
import type { App, RouteContext } from './context.ts';
import * as schemas from './schemas.ts';

/** Adds the route of the page's tab for operators. */
export function addClusterRoutes(app: App, { clusterView }: RouteContext): void {
  app.get(
    '/cluster/snapshot',
    {
      config: { operator: true },
      schema: {
        summary: 'Show the cluster to operators, as `feedctl top` does; asked once a second at most',
        security: schemas.OPERATOR,
        response: schemas.answers({ 200: ClusterSnapshot }, ...schemas.REFUSED, ...schemas.OPERATOR_REFUSED),
      },
    },
    async (_, reply) => {
      if (!clusterView)
        throw Object.assign(new FeedctlError('USAGE', 'this gateway does not show the cluster'), {
          statusCode: 404,
        });
      void reply.header('cache-control', 'no-store');
      return clusterView.snapshot();
    },
  );
}
