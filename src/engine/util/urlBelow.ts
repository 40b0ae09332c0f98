/**
 * Returns the URL of a path, with its query if it has one, below a base URL. The base may have a path
 * too, as behind a proxy.
 */
export function urlBelow(base: string, path: string): URL {
  const url = new URL(base);
  const { pathname, search } = new URL(path, base);
  url.pathname = url.pathname.replace(/\/+$/, '') + pathname;
  if (search) url.search = search;
  url.hash = '';
  return url;
}
