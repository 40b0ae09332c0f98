import { FeedctlError, messageOf } from '../model/errors.ts';
import { databaseError } from './errors.ts';
import type { Queryable } from './types.ts';
import { withoutPassword } from './url.ts';

/**
 * Meaning as in libpq
 * (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-TARGET-SESSION-ATTRS).
 */
const TARGETS = ['any', 'read-write', 'read-only', 'primary', 'standby', 'prefer-standby'] as const;
type Target = (typeof TARGETS)[number];
/** The parameters that this file reads. The driver gets one host. */
const OWN = new Set(['host', 'port', 'target_session_attrs', 'load_balance_hosts', 'connect_timeout']);
const PARTS = /^(postgres(?:ql)?:\/\/)([^/?#]*)([^?#]*)(?:\?([^#]*))?/s;
const HOST = /^(\[[^\]]*\]|[^:]*)(?::(\d*))?$/;

interface Host {
  readonly host: string;
  /** Empty: the default port. */
  readonly port: string;
}

export interface HostUrl {
  /** Host and port, for messages. */
  readonly shown: string;
  /** URL with this host only. */
  readonly url: string;
}

export interface Hosts {
  /** In the order of the URL. */
  readonly list: readonly HostUrl[];
  /** undefined: one host whose state is not checked. */
  readonly target: Target | undefined;
  readonly random: boolean;
  /** Maximum time to connect to one host. undefined: as the caller decides. */
  readonly connectMs: number | undefined;
}

interface UrlParts {
  /** Scheme, user and password. */
  readonly head: string;
  readonly hosts: string;
  readonly path: string;
  /** Other parameters as they stand in the URL. */
  readonly others: readonly string[];
  /** Values of the parameters that this file reads, percent-encoded. */
  readonly own: ReadonlyMap<string, string>;
}

/** Splits a list of hosts. An encoded comma in the path of a socket belongs to the path. */
const splitHosts = (list: string): string[] =>
  list.split(',').flatMap((one) => {
    const host = decoded(one);
    return host.startsWith('/') ? [host] : host.split(',');
  });

function partsOf(url: string): UrlParts | undefined {
  const [, scheme, authority, path, query = ''] = PARTS.exec(url) ?? [];
  if (scheme === undefined || authority === undefined) return undefined;
  const at = authority.lastIndexOf('@') + 1;
  const nameOf = (parameter: string) => parameter.split('=', 1)[0]!;
  const parameters = query.split('&').filter(Boolean);
  return {
    head: scheme + authority.slice(0, at),
    hosts: authority.slice(at),
    path: path || '/',
    others: parameters.filter((one) => !OWN.has(nameOf(one))),
    own: new Map(
      parameters
        .filter((one) => OWN.has(nameOf(one)))
        .map((one) => [nameOf(one), one.slice(nameOf(one).length + 1)]),
    ),
  };
}

/** Returns text that is not percent-encoded as it is: no host has such a name. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function urlOf({ head, path, others }: UrlParts, { host, port }: Host): string {
  const at = [...(host ? [`host=${encodeURIComponent(host)}`] : []), ...(port ? [`port=${port}`] : [])];
  return `${head}${path}?${[...at, ...others].join('&')}`;
}

/** Returns the URL with another host, which may be a node of Citus. */
export function urlAt(url: string, host: string, port: number): string {
  const parts = partsOf(url);
  if (!parts) throw new FeedctlError('CONFIG_INVALID', `the database URL cannot be read`);
  return urlOf(parts, { host, port: String(port) });
}

/**
 * Reads the hosts of a URL: `postgres://user@db1:5432,db2:5433/feeds?target_session_attrs=primary`, or
 * lists in the parameters `host` and `port`. feedctl writes, so the default for several hosts is
 * `read-write`. Throws CONFIG_INVALID.
 */
export function readHosts(url: string): Hosts {
  const bad = (why: string) =>
    new FeedctlError('CONFIG_INVALID', `the database URL ${withoutPassword(url)} ${why}`);
  const parts = partsOf(url);
  if (!parts) throw bad('cannot be read');
  const { own } = parts;
  const given = hostsOf(parts, bad);
  const target = (own.get('target_session_attrs') ?? (given.length > 1 ? 'read-write' : undefined)) as
    | Target
    | undefined;
  if (target !== undefined && !TARGETS.includes(target))
    throw bad(`has an unknown target_session_attrs: it must be one of ${TARGETS.join(', ')}`);
  const balance = own.get('load_balance_hosts') ?? 'disable';
  if (balance !== 'disable' && balance !== 'random')
    throw bad('has an unknown load_balance_hosts: it must be disable or random');
  const seconds = Number(own.get('connect_timeout') ?? 0);
  if (!Number.isInteger(seconds)) throw bad('has a connect_timeout that is no whole number of seconds');
  return {
    // The driver reads the URL of a single host itself.
    list:
      given.length === 1
        ? [{ shown: shownHost(given[0]!), url }]
        : given.map((host) => ({ shown: shownHost(host), url: urlOf(parts, host) })),
    target: target === 'any' && given.length === 1 ? undefined : target,
    random: balance === 'random',
    connectMs: seconds > 0 ? seconds * 1_000 : undefined,
  };
}

function hostsOf({ hosts, own }: UrlParts, bad: (why: string) => Error): Host[] {
  const inAuthority = hosts.split(',').map((text) => {
    const [, host, port = ''] = HOST.exec(text) ?? [];
    if (host === undefined) throw bad(`names the host ${text}, which cannot be read`);
    return { host: decoded(host), port };
  });
  const hostList = own.get('host');
  const portList = own.get('port');
  const names = hostList === undefined ? inAuthority.map(({ host }) => host) : splitHosts(hostList);
  const ports = portList === undefined ? inAuthority.map(({ port }) => port) : decoded(portList).split(',');
  if (ports.some((port) => !/^\d*$/.test(port))) throw bad('has a port that is no number');
  if (ports.length > 1 && ports.length !== names.length)
    throw bad(`names ${ports.length} ports for ${names.length} hosts`);
  return names.map((name, index) => ({
    host: name.replace(/^\[|\]$/g, ''),
    port: ports.length === 1 ? ports[0]! : ports[index]!,
  }));
}

const shownHost = ({ host, port }: Host): string =>
  `${host.includes(':') ? `[${host}]` : host || 'localhost'}${port && `:${port}`}`;

export interface ServerState {
  readonly standby: boolean;
  /** Transactions are read-only by default. */
  readonly readOnly: boolean;
}

const STATE = `
  select pg_is_in_recovery() as standby, current_setting('transaction_read_only') = 'on' as "readOnly"`;

export async function readServerState(db: Queryable): Promise<ServerState> {
  return (await db.query<{ standby: boolean; readOnly: boolean }>(STATE)).rows[0]!;
}

/** Returns why a server does not fit, or undefined if it does. */
export function misfitOf(target: Target, { standby, readOnly }: ServerState): string | undefined {
  switch (target) {
    case 'read-write':
      if (standby) return 'is a standby';
      return readOnly ? 'has default_transaction_read_only on' : undefined;
    case 'read-only':
      return standby || readOnly ? undefined : 'accepts writes';
    case 'primary':
      return standby ? 'is a standby' : undefined;
    case 'standby':
      return standby ? undefined : 'is a primary';
    default:
      return undefined;
  }
}

/** A server that answers, and does not fit `target_session_attrs`. */
export class Misfit extends Error {}

/**
 * Calls `attempt` for one host after the other until it succeeds. The time is divided among the hosts that
 * are left. `first`: host to begin with where only one host can fit. Returns the host. Throws the error of
 * a single host, the error of a host that refuses the user or has no such database, DATABASE_READ_ONLY or
 * DATABASE_UNREACHABLE with the reason of each host, or CONFIG_INVALID.
 */
export async function reachHost(
  url: string,
  options: { timeoutMs: number; first?: string | undefined },
  attempt: (host: HostUrl, target: Target | undefined, timeoutMs: number) => Promise<void>,
): Promise<string> {
  const hosts = readHosts(url);
  const { target, connectMs = Number.POSITIVE_INFINITY } = hosts;
  const deadline = performance.now() + options.timeoutMs;
  const passes = target === 'prefer-standby' ? (['standby', 'any'] as const) : [target];
  const order = passes.flatMap((pass) => ordered(hosts, options.first).map((host) => ({ host, pass })));
  const failures = new Map<string, unknown>();
  for (const [index, { host, pass }] of order.entries()) {
    const left = Math.max(0, deadline - performance.now()) / (order.length - index);
    try {
      await attempt(host, pass, Math.min(connectMs, left));
      return host.shown;
    } catch (error) {
      if ((hosts.list.length === 1 && !(error instanceof Misfit)) || isFinal(error)) throw error;
      failures.set(host.shown, error);
    }
  }
  throw noneFits(url, failures);
}

/** Returns whether a server refused the user or the password. The driver's own errors begin with SASL. */
export const isUserRefused = (error: unknown): boolean =>
  ((error as { code?: string }).code ?? '').startsWith('28') || messageOf(error).startsWith('SASL');

/** As libpq: the next host would refuse too, and its answer would hide the reason. */
const isFinal = (error: unknown): boolean =>
  isUserRefused(error) || (error as { code?: string }).code === '3D000';

function ordered({ list, target, random }: Hosts, first: string | undefined): readonly HostUrl[] {
  if (random) {
    const keyed = list.map((host) => ({ host, key: Math.random() }));
    return keyed.toSorted((a, b) => a.key - b.key).map(({ host }) => host);
  }
  // A host that is down would cost each new session its whole timeout.
  return target === 'read-write' || target === 'primary'
    ? list.toSorted((a, b) => Number(b.shown === first) - Number(a.shown === first))
    : list;
}

function noneFits(url: string, failures: ReadonlyMap<string, unknown>): FeedctlError {
  const reasons = [...failures].map(([host, error]) => `${host} ${messageOf(error)}`).join('; ');
  const text = `no host of the database ${withoutPassword(url)} can be used: ${reasons}`;
  const errors = [...failures.values()];
  const cause = { cause: errors[0] };
  if (errors.some((error) => error instanceof Misfit && !/^(is a primary|accepts)/.test(error.message)))
    return new FeedctlError('DATABASE_READ_ONLY', text, cause);
  const codes = new Set(errors.map((error) => databaseError(error, url).code));
  const [code] = codes.size === 1 ? codes : [];
  return new FeedctlError(code === 'DATABASE_TLS_FAILED' ? code : 'DATABASE_UNREACHABLE', text, cause);
}
