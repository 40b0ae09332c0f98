/** Returns the URL of a path below a base URL, which may have a path too, as behind a proxy. */
export function urlBelow(base: string, path: string): URL {
  const url = new URL(base);
  url.pathname = url.pathname.replace(/\/+$/, '') + path;
  url.hash = '';
  return url;
}
