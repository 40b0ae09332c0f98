import { issueTicket } from '../tickets.ts';
import type { App, RouteContext } from './context.ts';
import * as schemas from './schemas.ts';

export function addServiceRoutes(app: App, { db, checkReady }: RouteContext): void {
  app.post(
    '/ticket',
    {
      schema: {
        summary: 'Get a ticket that opens one WebSocket at /post/feed/posted within 30 seconds',
        security: schemas.BEARER,
        response: schemas.answers(
          { 201: schemas.Ticket },
          ...schemas.REFUSED,
          ...schemas.BODY_REFUSED,
          ...schemas.TOKEN_REFUSED,
        ),
      },
    },
    async (request, reply) => reply.code(201).send(await issueTicket(db, request.userId)),
  );

  app.get(
    '/healthz',
    {
      config: { unlimited: true },
      schema: { summary: 'The process runs', response: schemas.answers({ 200: schemas.Status }) },
    },
    async () => ({ status: 'ok' }),
  );
  app.get(
    '/readyz',
    {
      config: { unlimited: true },
      schema: {
        summary: 'The gateway accepts requests',
        response: schemas.answers({ 200: schemas.Status }, 503),
      },
    },
    async () => {
      await checkReady();
      return { status: 'ready' };
    },
  );
  app.get('/openapi.json', { schema: { hide: true } }, async () => app.swagger());
}
