import type { AddressInfo } from 'node:net';
import { networkInterfaces } from 'node:os';
import { httpUrlProblem } from '../config/settings.ts';
import { FeedctlError } from '../model/errors.ts';
import type { Log } from '../telemetry/log.ts';

/**
 * A URL, or that of this machine where every process of the cluster runs on it: a laptop's other addresses
 * change with its network.
 */
export type Advertised = { readonly url: string } | 'this machine';

interface GatewayUrls {
  /** URL for this machine. */
  readonly url: string;
  /** URL for other processes of the cluster, which the gateway registers. */
  readonly advertisedUrl: string;
}

type Interfaces = ReturnType<typeof networkInterfaces>;

/** The loopback address of the family of each wildcard address. */
const WILDCARDS: Readonly<Record<string, string>> = { '0.0.0.0': '127.0.0.1', '::': '::1' };
/** Addresses that are good on one link only; a URL cannot name the link. */
const LINK_LOCAL = /^(169\.254\.|fe[89ab][0-9a-f]:)/i;

/** Returns the URL in one form. Throws CONFIG_INVALID for one that no request can be sent to. */
export function checkAdvertisedUrl(url: string): string {
  const why = httpUrlProblem(url);
  if (why) throw new FeedctlError('CONFIG_INVALID', `the URL of --advertise-url ${why}`);
  const { href, hostname } = new URL(url);
  // Each process would take it for its own machine.
  if (hostname.replace(/^\[|\]$/g, '') in WILDCARDS)
    throw new FeedctlError(
      'CONFIG_INVALID',
      `the URL of --advertise-url must not have the host ${hostname}, which is no machine's address`,
    );
  return href.replace(/\/+$/, '');
}

/**
 * Returns the URLs of a gateway that listens on `bound`. For a wildcard address it advertises the first
 * address of the machine that others may reach.
 */
export function gatewayUrls(
  bound: AddressInfo,
  advertised: Advertised | undefined,
  log: Pick<Log, 'warn'>,
  interfaces = networkInterfaces(),
): GatewayUrls {
  const loopback = WILDCARDS[bound.address];
  const url = urlOf(loopback ?? bound.address, bound.port);
  if (advertised === 'this machine') return { url, advertisedUrl: url };
  if (advertised) return { url, advertisedUrl: advertised.url };
  if (!loopback) return { url, advertisedUrl: url };
  const external = externalAddress(bound.address, interfaces);
  if (!external) log.warn({ url }, 'this machine has no address for others: pass --advertise-url');
  return { url, advertisedUrl: external ? urlOf(external, bound.port) : url };
}

/** Prefers IPv4. A listener on 0.0.0.0 has no IPv6 address. */
function externalAddress(wildcard: string, interfaces: Interfaces): string | undefined {
  const external = Object.values(interfaces)
    .flatMap((addresses) => addresses ?? [])
    .filter(({ internal, address }) => !internal && !LINK_LOCAL.test(address));
  const families = wildcard === '::' ? ['IPv4', 'IPv6'] : ['IPv4'];
  return families.flatMap((family) => external.filter((one) => one.family === family))[0]?.address;
}

const urlOf = (address: string, port: number): string =>
  `http://${address.includes(':') ? `[${address}]` : address}:${port}`;
