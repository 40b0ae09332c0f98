import { FeedctlError } from '../../model/errors.ts';
import type { KnownPaths } from '../knownPaths.ts';
import { addAdminRoutes } from './admin.ts';
import type { App, RouteContext } from './context.ts';
import { addFriendRoutes } from './friends.ts';
import { addPage } from './page.ts';
import { addPostRoutes } from './posts.ts';
import { addServiceRoutes } from './service.ts';
import { addUserRoutes } from './users.ts';

/**
 * Registers all routes. A path without a route is answered with 404 problem details, and a method that
 * a path does not take with 405.
 */
export function addRoutes(app: App, context: RouteContext, paths: KnownPaths): void {
  addUserRoutes(app, context);
  addFriendRoutes(app, context);
  addPostRoutes(app, context);
  addServiceRoutes(app, context);
  addAdminRoutes(app, context);
  addPage(app);
  app.setNotFoundHandler((request) => {
    const allow = paths.methodsOf(request.url).join(', ');
    throw Object.assign(
      new FeedctlError('USAGE', `there is no ${request.method} ${request.url.split('?')[0]}`),
      allow ? { statusCode: 405, allow } : { statusCode: 404 },
    );
  });
}
