import type { Options, SocketOptions } from 'amqplib';
import { withoutPassword } from '../../database/url.ts';
import { FeedctlError } from '../../model/errors.ts';
import { tlsOptions } from '../../util/tls.ts';

const CONNECT_TIMEOUT_MS = 5_000;
/** Also the time in which a broker that stops responding is noticed. */
const HEARTBEAT_SECONDS = 10;

/** One broker of the cluster, with options for amqplib. */
export interface Endpoint {
  /** URL without its password. */
  readonly shown: string;
  readonly user: string;
  readonly vhost: string;
  readonly connect: Options.Connect;
  readonly socket: SocketOptions;
}

/**
 * Parses `amqp(s)://user:password@host:port/vhost?cacertfile=&certfile=&keyfile=&heartbeat=`, or
 * several of them separated by commas. `util/tls.ts` reads the TLS files. Throws CONFIG_INVALID.
 */
export function parseEndpoints(urls: string): Endpoint[] {
  return urls.split(',').map((text) => parseEndpoint(text.trim()));
}

function parseEndpoint(text: string): Endpoint {
  const shown = withoutPassword(text);
  const bad = (why: string, cause?: unknown) =>
    new FeedctlError('CONFIG_INVALID', `the broker URL ${shown} ${why}`, { cause });
  let url: URL;
  let user: string;
  let password: string;
  let vhost: string;
  try {
    url = new URL(text);
    user = decodeURIComponent(url.username) || 'guest';
    password = url.username ? decodeURIComponent(url.password) : 'guest';
    vhost = decodeURIComponent(url.pathname.slice(1)) || '/';
  } catch (error) {
    throw bad('cannot be read', error);
  }
  const heartbeat = Number(url.searchParams.get('heartbeat') ?? HEARTBEAT_SECONDS);
  if (!Number.isInteger(heartbeat) || heartbeat < 0)
    throw bad('has a heartbeat that is no number of seconds');
  const secure = url.protocol === 'amqps:';
  const hostname = url.hostname.replace(/^\[|\]$/g, '');
  const tls = tlsOptions(url.searchParams, bad);
  return {
    shown,
    user,
    vhost,
    connect: {
      protocol: secure ? 'amqps' : 'amqp',
      hostname,
      port: Number(url.port) || (secure ? 5671 : 5672),
      username: user,
      password,
      vhost,
      heartbeat,
    },
    socket: {
      // Requests wait for confirms, which are small frames.
      noDelay: true,
      keepAlive: true,
      timeout: CONNECT_TIMEOUT_MS,
      ...(secure && tls),
    },
  };
}
