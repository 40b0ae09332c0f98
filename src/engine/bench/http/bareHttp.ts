// Process of `bench http`: a minimal fastify route, to compare the gateway with.
import Fastify from 'fastify';
import { answerParent } from '../push/answering.ts';
import type { BareHttpCalls } from './calls.ts';

answerParent<BareHttpCalls>({
  async listen({ body }) {
    const app = Fastify();
    app.get('/post/feed', (_, reply) => reply.type('application/json; charset=utf-8').send(body));
    return { url: await app.listen({ host: '127.0.0.1', port: 0 }) };
  },
});
