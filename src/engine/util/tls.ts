import { X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createSecureContext } from 'node:tls';
import { messageOf } from '../model/errors.ts';

/**
 * Error codes of Node.js and OpenSSL for a failed handshake: no TLS at the server, or an invalid
 * certificate or key.
 */
const TLS_CODE =
  /^(ERR_SSL|ERR_TLS|ERR_OSSL|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_|HOSTNAME_MISMATCH|EPROTO$)/;

export const isTlsError = (error: unknown): boolean =>
  TLS_CODE.test(String((error as { code?: unknown } | undefined)?.code ?? ''));

export interface TlsOptions {
  readonly ca?: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
  readonly rejectUnauthorized: boolean;
}

/**
 * Reads the TLS files that the query of a server's URL names: `cacertfile`, `certfile` and
 * `keyfile` in PEM. `verify=verify_none` accepts any server. The names are those of RabbitMQ's own
 * clients (https://www.rabbitmq.com/docs/uri-query-parameters). Throws `bad(reason)` for a file
 * that cannot be read or is invalid, because drivers would connect without it, or not name the
 * file.
 */
export function tlsOptions(query: URLSearchParams, bad: (why: string, cause?: unknown) => Error): TlsOptions {
  const read = (name: string): Buffer | undefined => {
    const path = query.get(name);
    if (path === null) return undefined;
    try {
      return readFileSync(path);
    } catch (error) {
      throw bad(`names a file for ${name} that cannot be read: ${messageOf(error)}`, error);
    }
  };
  const ca = read('cacertfile');
  const cert = read('certfile');
  const key = read('keyfile');
  const check = (what: string, work: () => unknown): void => {
    try {
      work();
    } catch (error) {
      throw bad(`names ${what}: ${messageOf(error)}`, error);
    }
  };
  if (ca) check('a cacertfile without a certificate', () => new X509Certificate(ca));
  if (!cert !== !key) throw bad('needs certfile and keyfile together');
  if (cert && key)
    check('a certfile and a keyfile that do not fit', () => createSecureContext({ cert, key }));
  return {
    ...(ca && { ca }),
    ...(cert && { cert }),
    ...(key && { key }),
    rejectUnauthorized: query.get('verify') !== 'verify_none',
  };
}
