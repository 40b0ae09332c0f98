const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const TIME = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(\.\d+)?Z?$/;
const URL_IN_TEXT = /[a-z][a-z0-9+]*:\/\/[^\s,]+/gi;
/** Length of a short id. Commands that take an id accept it. */
const SHORT_ID = 8;
/** Parts of a long path that are shown. */
const PATH_PARTS = 2;

/** Shortens ids, URLs and times of a table, column by column. Ids of one column stay different. */
export function shortened(cells: readonly (readonly string[])[]): string[][] {
  const columns = Math.max(0, ...cells.map((row) => row.length));
  const short = Array.from({ length: columns }, (_, column) =>
    shortColumn(cells.map((row) => row[column] ?? '')),
  );
  return cells.map((row, at) => row.map((_, column) => short[column]![at]!));
}

function shortColumn(texts: readonly string[]): string[] {
  const ids = new Set(texts.filter((text) => UUID.test(text)));
  let length = SHORT_ID;
  const differ = () => new Set([...ids].map((id) => id.slice(0, length))).size === ids.size;
  while (ids.size > 0 && !differ()) length += 1;
  return texts.map((text) => {
    if (UUID.test(text)) return text.slice(0, length);
    const time = TIME.exec(text);
    if (time) return `${time[1]} ${time[2]}`;
    return text.replaceAll(URL_IN_TEXT, shortUrl);
  });
}

/** `postgres://feedctl@/feeds?host=%2Fhome%2Fada%2Fd2%2Frun` becomes `…/d2/run`. */
function shortUrl(text: string): string {
  // WHATWG URLs need a host.
  const found = /^[^/]+\/\/(?:[^/?@]*@)?([^/?]*)(\/[^?]*)?(?:\?(.*))?$/.exec(text);
  const [, host = '', path = '', query] = found ?? [];
  const directory = new URLSearchParams(query).get('host');
  if (host !== '' || !directory?.startsWith('/')) return `${host}${path.replace(/\/$/, '')}`;
  const parts = directory.split('/').filter(Boolean);
  return parts.length > PATH_PARTS ? `…/${parts.slice(-PATH_PARTS).join('/')}` : directory;
}
