import type { IncomingMessage } from 'node:http';
import { isIPv4 } from 'node:net';
import proxyAddr from '@fastify/proxy-addr';
import ipaddr from 'ipaddr.js';
import { FeedctlError, messageOf } from '../model/errors.ts';

/**
 * Returns a function that finds the address of a client, as limits count it: an IPv4 address, or
 * the /64 network of an IPv6 address, which one subscriber has entirely. `X-Forwarded-For` is
 * trusted as far as the `proxies` wrote it: addresses, networks, or names such as `loopback`.
 * Without proxies it is ignored. Throws CONFIG_INVALID.
 */
export function openAddresses(proxies: readonly string[]): (request: IncomingMessage) => string {
  let trust: ReturnType<typeof proxyAddr.compile>;
  try {
    trust = proxyAddr.compile([...proxies]);
  } catch (error) {
    throw new FeedctlError(
      'CONFIG_INVALID',
      `a trusted proxy is neither an address nor a network: ${messageOf(error)}`,
    );
  }
  return (request) =>
    networkOf(proxies.length > 0 ? proxyAddr(request, trust) : (request.socket.remoteAddress ?? ''));
}

function networkOf(address: string): string {
  if (isIPv4(address)) return address;
  if (!ipaddr.isValid(address)) return address;
  const parsed = ipaddr.process(address);
  return parsed instanceof ipaddr.IPv6 ? parsed.parts.slice(0, 4).join(':') : parsed.toString();
}
