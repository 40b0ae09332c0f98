import { FeedctlError } from '../../model/errors.ts';
import { addAdminRoutes } from './admin.ts';
import type { App, RouteContext } from './context.ts';
import { addFriendRoutes } from './friends.ts';
import { addPage } from './page.ts';
import { addPostRoutes } from './posts.ts';
import { addServiceRoutes } from './service.ts';
import { addUserRoutes } from './users.ts';

/** Registers all routes. A path or method without a route is answered with 404 problem details. */
export function addRoutes(app: App, context: RouteContext): void {
  addUserRoutes(app, context);
  addFriendRoutes(app, context);
  addPostRoutes(app, context);
  addServiceRoutes(app, context);
  addAdminRoutes(app, context);
  addPage(app);
  app.setNotFoundHandler((request) => {
    throw Object.assign(
      new FeedctlError('USAGE', `there is no ${request.method} ${request.url.split('?')[0]}`),
      { statusCode: 404 },
    );
  });
}
