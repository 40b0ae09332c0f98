import { readFile } from 'node:fs/promises';
import type { FastifyReply } from 'fastify';
import type { App } from './context.ts';

/** Plain files that are part of the package: the same path from src and from dist. */
const FILES = new URL('../page/', import.meta.url);
const ROUTES = {
  '/': { file: 'index.html', type: 'text/html; charset=utf-8' },
  '/page.js': { file: 'page.js', type: 'text/javascript; charset=utf-8' },
  '/page.css': { file: 'page.css', type: 'text/css; charset=utf-8' },
} as const;

/** Nothing but its own files and its own gateway; no text of anybody's can become code. */
const HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cache-control': 'no-cache',
} as const;

/** The page at `/`: a small client in the browser. */
export function addPage(app: App): void {
  for (const [path, { file, type }] of Object.entries(ROUTES)) {
    const content = readFile(new URL(file, FILES));
    // Told to whoever asks for it.
    content.catch(() => {});
    const send = async (_: unknown, reply: FastifyReply) =>
      reply
        .headers(HEADERS)
        .type(type)
        .send(await content);
    app.get(path, { schema: { hide: true } }, send);
  }
}
