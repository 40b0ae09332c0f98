import { readFile } from 'node:fs/promises';
import type { FastifyReply } from 'fastify';
import type { App } from './context.ts';

/** Files of the package, at the same relative path in src and in dist. */
const FILES = new URL('../page/', import.meta.url);
const ROUTES = {
  '/': { file: 'index.html', type: 'text/html; charset=utf-8' },
  '/page.js': { file: 'page.js', type: 'text/javascript; charset=utf-8' },
  '/page.css': { file: 'page.css', type: 'text/css; charset=utf-8' },
} as const;

/** Allows only the page's own files and its own gateway. No text of a user can become code. */
const HEADERS = {
  'content-security-policy': [
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",
  ].join('; '),
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cache-control': 'no-cache',
} as const;

/** Adds the page at `/`, a small client for browsers. */
export function addPage(app: App): void {
  for (const [path, { file, type }] of Object.entries(ROUTES)) {
    const content = readFile(new URL(file, FILES));
    // A failed read is thrown by each request instead.
    content.catch(() => {});
    const send = async (_: unknown, reply: FastifyReply) =>
      reply
        .headers(HEADERS)
        .type(type)
        .send(await content);
    app.get(path, { schema: { hide: true } }, send);
  }
}
