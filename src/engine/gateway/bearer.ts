import type { FastifyRequest } from 'fastify';

/** Returns the token of `Authorization: Bearer …`, or an empty string. */
export function bearerOf(request: Pick<FastifyRequest, 'headers'>): string {
  const [scheme, token = ''] = (request.headers.authorization ?? '').split(' ');
  return scheme?.toLowerCase() === 'bearer' ? token : '';
}
