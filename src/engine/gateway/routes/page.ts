import { readFile } from 'node:fs/promises';
import type { FastifyReply } from 'fastify';
import type { App } from './context.ts';

/** Files of the package, at the same relative path in src and in dist. */
const PAGE = new URL('../page/', import.meta.url);
const DOCUMENTS = new URL('../../../../docs/', import.meta.url);

const TYPES = {
  html: 'text/html; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  css: 'text/css; charset=utf-8',
} as const;

/** Scripts of the page, each at the path of its name. */
const SCRIPTS = [
  'accounts',
  'api',
  'charts',
  'cluster',
  'dom',
  'feed',
  'figures',
  'live',
  'main',
  'people',
] as const;

/** Documents that the page links to: those of this version, also without access to the Internet. */
const GUIDES = ['guides/clients.md', 'reference/http-api.md', 'errors.md'] as const;

/** Headers for everything here: a browser takes no file for another type. */
const SAFE = { 'x-content-type-options': 'nosniff', 'cache-control': 'no-cache' } as const;

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
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  ...SAFE,
} as const;

/** Adds the page at `/`, a small client for browsers, and the documents that it links to. */
export function addPage(app: App): void {
  const add = (path: string, file: URL, type: string, headers: Readonly<Record<string, string>>) => {
    const content = readFile(file);
    // A failed read is thrown by each request instead.
    content.catch(() => {});
    app.get(path, { schema: { hide: true } }, async (_, reply: FastifyReply) =>
      reply
        .headers(headers)
        .type(type)
        .send(await content),
    );
  };
  add('/', new URL('index.html', PAGE), TYPES.html, HEADERS);
  add('/page/style.css', new URL('style.css', PAGE), TYPES.css, HEADERS);
  for (const name of SCRIPTS) add(`/page/${name}.js`, new URL(`${name}.js`, PAGE), TYPES.js, HEADERS);
  add('/asyncapi.json', new URL('asyncapi.json', DOCUMENTS), 'application/json; charset=utf-8', SAFE);
  for (const guide of GUIDES)
    add(`/docs/${guide}`, new URL(guide, DOCUMENTS), 'text/plain; charset=utf-8', SAFE);
}
