import type { FastifyRequest } from 'fastify';

/** The token of `Authorization: Bearer …`; empty where there is none. */
export function bearerOf(request: Pick<FastifyRequest, 'headers'>): string {
  const [scheme, token = ''] = (request.headers.authorization ?? '').split(' ');
  return scheme?.toLowerCase() === 'bearer' ? token : '';
}
