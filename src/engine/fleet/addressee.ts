import type { IncomingHttpHeaders } from 'node:http';
import { FeedctlError } from '../model/errors.ts';

/** Ids of the process that a request means, or that answers it. A part that is not known is left out. */
export interface Addressee {
  readonly cluster?: string | undefined;
  readonly gateway?: string | undefined;
}

/**
 * The header of each part. A request between processes names whom it means, and the answer names whom it
 * comes from, because a URL may lead to another process than the one that has registered it. Requests of
 * users have no such header.
 */
const PARTS: readonly {
  readonly part: keyof Addressee;
  readonly header: string;
}[] = [
  { part: 'cluster', header: 'feedctl-cluster' },
  { part: 'gateway', header: 'feedctl-gateway' },
];

/** Returns the headers of a request to this process. */
export const addressedTo = (meant: Addressee): Record<string, string> => headersOf(meant, () => true);

/** Returns the headers of this process's answer: its ids, where the request names any. */
export const answeredBy = (self: Addressee, request: IncomingHttpHeaders): Record<string, string> =>
  headersOf(self, (header) => request[header] !== undefined);

/** Refuses a request that means another process. Throws GATEWAY_OTHER. */
export function checkRequest(self: Addressee, request: IncomingHttpHeaders): void {
  for (const { part, header } of PARTS)
    if (request[header] !== undefined && self[part] !== undefined && request[header] !== self[part])
      throw new FeedctlError(
        'GATEWAY_OTHER',
        `this is ${part} ${self[part]}, and the request means another one`,
      );
}

/** Returns whom an answer comes from. Processes of older versions do not say it. */
export const senderOf = (answer: Pick<Headers, 'get'>): Addressee =>
  Object.fromEntries(PARTS.map(({ part, header }) => [part, answer.get(header) ?? undefined]));

/**
 * Refuses an answer that comes from another process than the request meant. Throws
 * GATEWAY_OTHER. A part that one of them does not name is taken for the same.
 */
export function checkSender(meant: Addressee, sender: Addressee, url: string): void {
  for (const { part } of PARTS)
    if (meant[part] !== undefined && sender[part] !== undefined && meant[part] !== sender[part])
      throw new FeedctlError(
        'GATEWAY_OTHER',
        `${part} ${sender[part]} answers at ${url}, not ${part} ${meant[part]}`,
      );
}

const headersOf = (ids: Addressee, wanted: (header: string) => boolean): Record<string, string> =>
  Object.fromEntries(
    PARTS.flatMap(({ part, header }) => {
      const id = ids[part];
      return id !== undefined && wanted(header) ? [[header, id]] : [];
    }),
  );
