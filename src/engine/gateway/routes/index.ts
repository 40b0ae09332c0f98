import { FeedctlError } from '../../model/errors.ts';
import type { KnownPaths } from '../knownPaths.ts';
import { addAdminRoutes } from './admin.ts';
import { addClusterRoutes } from './cluster.ts';
import type { App, RouteContext } from './context.ts';
import { addFriendRoutes } from './friends.ts';
import { addPage } from './page.ts';
import { addPostRoutes } from './posts.ts';
import { addServiceRoutes } from './service.ts';
import { addUserRoutes } from './users.ts';

/**
 * Registers all routes. A path without a route is answered with 404 problem details, and a method that
 * a path does not take with 405, both before the body of the request is read.
 */
export function addRoutes(app: App, context: RouteContext, paths: KnownPaths): void {
  app.addHook('onRequest', async ({ is404, method, url }) => {
    if (!is404) return;
    const allow = paths.methodsOf(url).join(', ');
    throw Object.assign(
      new FeedctlError('USAGE', `there is no ${method} ${url.split('?')[0]}`),
      allow ? { statusCode: 405, allow } : { statusCode: 404 },
    );
  });
  addUserRoutes(app, context);
  addFriendRoutes(app, context);
  addPostRoutes(app, context);
  addServiceRoutes(app, context);
  addAdminRoutes(app, context);
  addClusterRoutes(app, context);
  addPage(app);
}
