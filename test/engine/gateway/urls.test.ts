import type { NetworkInterfaceInfo } from 'node:os';
import { expect, test } from 'vitest';
import { checkAdvertisedUrl, gatewayUrls } from '../../../src/engine/gateway/urls.ts';
import { isFeedctlError } from '../../../src/engine/model/errors.ts';

const address = (family: 'IPv4' | 'IPv6', ip: string, internal = false) =>
  ({ family, address: ip, internal }) as NetworkInterfaceInfo;

const INTERFACES = {
  lo: [address('IPv4', '127.0.0.1', true), address('IPv6', '::1', true)],
  wifi: [address('IPv4', '169.254.7.7'), address('IPv6', 'fe80::7')],
  eth0: [address('IPv6', '2001:db8::7'), address('IPv4', '10.0.0.7'), address('IPv6', 'fe80::8')],
  eth1: [address('IPv4', '10.1.0.7')],
};

/** The URL for other machines, with the warnings that were logged. */
function advertised(
  on: string,
  interfaces: Parameters<typeof gatewayUrls>[3],
  given?: Parameters<typeof gatewayUrls>[1],
) {
  const warnings: string[] = [];
  const log = { warn: (_: unknown, message?: string) => warnings.push(message ?? '') };
  const bound = { address: on, port: 8080, family: on.includes(':') ? 'IPv6' : 'IPv4' };
  const urls = gatewayUrls(bound, given, log as unknown as Parameters<typeof gatewayUrls>[2], interfaces);
  return { ...urls, warnings };
}

test('a gateway on a wildcard address advertises the first address that other machines reach', () => {
  expect(advertised('0.0.0.0', INTERFACES)).toEqual({
    url: 'http://127.0.0.1:8080',
    advertisedUrl: 'http://10.0.0.7:8080',
    warnings: [],
  });
  expect(advertised('::', INTERFACES)).toMatchObject({
    url: 'http://[::1]:8080',
    advertisedUrl: 'http://10.0.0.7:8080',
  });
  const { lo, wifi } = INTERFACES;
  const eth0 = [address('IPv6', '2001:db8::7')];
  expect(advertised('::', { lo, wifi, eth0 }).advertisedUrl).toBe('http://[2001:db8::7]:8080');
});

test('a gateway that no other machine can reach says so, and advertises its loopback address', () => {
  const { lo, wifi } = INTERFACES;
  const warnings = [expect.stringContaining('--advertise-url')];
  for (const interfaces of [{ lo }, { lo, wifi }, { lo, eth0: [address('IPv6', '2001:db8::7')] }])
    expect(advertised('0.0.0.0', interfaces)).toEqual({
      url: 'http://127.0.0.1:8080',
      advertisedUrl: 'http://127.0.0.1:8080',
      warnings,
    });
});

test('a gateway on one address advertises that address', () => {
  for (const [on, url] of [
    ['10.1.0.7', 'http://10.1.0.7:8080'],
    ['127.0.0.1', 'http://127.0.0.1:8080'],
    ['2001:db8::7', 'http://[2001:db8::7]:8080'],
  ])
    expect(advertised(on!, INTERFACES)).toEqual({ url, advertisedUrl: url, warnings: [] });
});

test('a gateway advertises the URL that it is given, or that of its own machine', () => {
  const given = { url: checkAdvertisedUrl('https://feeds.example:443/one/') };
  expect(advertised('0.0.0.0', INTERFACES, given)).toEqual({
    url: 'http://127.0.0.1:8080',
    advertisedUrl: 'https://feeds.example/one',
    warnings: [],
  });
  expect(advertised('0.0.0.0', { lo: INTERFACES.lo }, 'this machine')).toEqual({
    url: 'http://127.0.0.1:8080',
    advertisedUrl: 'http://127.0.0.1:8080',
    warnings: [],
  });
});

test.each([
  ['10.0.0.7:8080', /must start with http:\/\/ or https:\/\//],
  ['ftp://10.0.0.7', /must start with/],
  ['http://', /is no URL/],
  ['http://a b', /is no URL/],
  ['http://feeds:secret@10.0.0.7', /must not have a user name/],
  ['http://10.0.0.7/?a=1', /must end with its path/],
  ['http://0.0.0.0:8080', /must not have the host 0\.0\.0\.0/],
  ['http://[::]:8080', /must not have the host \[::\]/],
])('the URL %s cannot be advertised', (url, why) => {
  try {
    checkAdvertisedUrl(url);
    expect.unreachable();
  } catch (error) {
    expect(isFeedctlError(error, 'CONFIG_INVALID')).toBe(true);
    expect((error as Error).message).toMatch(why);
    expect((error as Error).message).not.toContain('secret');
  }
});
