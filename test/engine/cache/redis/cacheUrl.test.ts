import { expect, test } from 'vitest';
import { basePrefix, parseCacheUrl } from '../../../../src/engine/cache/redis/cacheUrl.ts';
import { codeOf } from '../../../support/codes.ts';

test('a URL of one server, of sentinels and of a cluster', () => {
  expect(parseCacheUrl('redis://me:p%40w@cache.example/3')).toMatchObject({
    kind: 'server',
    hosts: [{ host: 'cache.example', port: 6379 }],
    server: { db: 3, username: 'me', password: 'p@w' },
  });
  expect(parseCacheUrl('redis://[::1]:7000').hosts).toEqual([{ host: '::1', port: 7000 }]);
  const group =
    'redis+sentinel://me:pw@s1:26379,s2,[::1]:5000/my-master/2?sentinel_password=a%26b&sentinel_username=w';
  expect(parseCacheUrl(group)).toEqual({
    shown: group.replace(':pw@', ':***@').replace('a%26b', '***'),
    kind: 'sentinel',
    hosts: [
      { host: 's1', port: 26_379 },
      { host: 's2', port: 26_379 },
      { host: '::1', port: 5000 },
    ],
    group: 'my-master',
    server: { db: 2, username: 'me', password: 'pw' },
    sentinel: { username: 'w', password: 'a&b' },
  });
  expect(parseCacheUrl('redis+cluster://h1:7000,h2/')).toMatchObject({
    kind: 'cluster',
    hosts: [
      { host: 'h1', port: 7000 },
      { host: 'h2', port: 6379 },
    ],
    server: { db: 0 },
  });
  expect(parseCacheUrl('rediss+sentinel://s1/m?sentinel_tls=true')).toMatchObject({
    server: { tls: { rejectUnauthorized: true } },
    sentinel: { tls: { rejectUnauthorized: true } },
  });
  expect(parseCacheUrl('rediss+sentinel://s1/m').sentinel).toEqual({});
  expect(parseCacheUrl('redis+sentinel://s1/m?sentinel_tls=true').server).toEqual({ db: 0 });
});

test.each([
  ['redis+sentinel://s1:26379/', /names no group/],
  ['redis+sentinel://s1:26379/m/x', /names the database x/],
  ['redis+sentinel://s1:26379,s2:99999/m', /cannot be read/],
  ['redis+sentinel://s1,,s2/m', /names no host/],
  ['redis+sentinel://s1/m?sentinel_tls=maybe', /sentinel_tls/],
  ['redis+cluster://:secret@h1/2', /only number 0/],
  ['redis+ring://h1', /cannot be read/],
])('%s is refused', (url, why) => {
  let message = '';
  const read = () => {
    try {
      return parseCacheUrl(url);
    } catch (error) {
      message = (error as Error).message;
      throw error;
    }
  };
  expect(codeOf(read)).toBe('CONFIG_INVALID');
  expect(message).toMatch(why);
  expect(message).not.toContain('secret');
});

test('the id of a cluster is a hash tag in a Redis Cluster only', () => {
  expect(basePrefix('redis://h', 'c0ffee', '1.2.3')).toBe('feedctl:1.2.3:');
  expect(basePrefix('rediss+sentinel://h/m', 'c0ffee', '1.2.3')).toBe('feedctl:1.2.3:');
  expect(basePrefix('rediss+cluster://h', 'c0ffee', '1.2.3')).toBe('feedctl:{c0ffee}1.2.3:');
});
