import { describe, expect, onTestFinished, test } from 'vitest';
import { Database } from '../../../src/engine/database/database.ts';
import { readHosts, urlAt } from '../../../src/engine/database/hosts.ts';
import { migrate } from '../../../src/engine/database/migrate.ts';
import { withoutPassword } from '../../../src/engine/database/url.ts';
import { checkSessionsKept, checkWritable } from '../../../src/engine/database/usable.ts';
import { freshDatabase } from '../../support/cluster.ts';
import { rejection } from '../../support/codes.ts';
import { openProxy } from '../../support/proxy.ts';
import { freePorts } from '../../support/servers.ts';
import { type ReplicatedServer, startReplicated } from '../../support/standby.ts';

const shown = (url: string) => readHosts(url).list.map((host) => host.shown);

describe('the hosts of a URL', () => {
  test.each([
    ['postgres://u@db1:5432,db2:5433/feeds', ['db1:5432', 'db2:5433']],
    ['postgres://u:p,w@db1,db2/feeds', ['db1', 'db2']],
    ['postgres://u@[::1]:5432,[fe80::1]/feeds', ['[::1]:5432', '[fe80::1]']],
    ['postgresql:///feeds?host=db1,db2&port=5432', ['db1:5432', 'db2:5432']],
    ['postgres://u@/feeds?host=db1,db2&port=5432,5433', ['db1:5432', 'db2:5433']],
    ['postgres://u@/feeds?host=%2Fvar%2Frun,db2', ['/var/run', 'db2']],
    ['postgres://%2Fvar%2Frun,db2/feeds', ['/var/run', 'db2']],
    ['postgres://u@/feeds?host=%2Fa%2Cb%2Frun,db1%2Cdb2', ['/a,b/run', 'db1', 'db2']],
    ['postgres://u@db1/feeds', ['db1']],
    ['postgres://', ['localhost']],
  ])('of %s are read in their order', (url, hosts) => {
    expect(shown(url)).toEqual(hosts);
  });

  test('are passed to the driver one at a time, with all other parts of the URL', () => {
    const { list } = readHosts(
      'postgres://u:p%2Fw@[::1]:5432,db2/feeds?sslmode=require&target_session_attrs=any&connect_timeout=2',
    );
    expect(list.map(({ url }) => url)).toEqual([
      'postgres://u:p%2Fw@/feeds?host=%3A%3A1&port=5432&sslmode=require',
      'postgres://u:p%2Fw@/feeds?host=db2&sslmode=require',
    ]);
    expect(urlAt('postgres://u@a,b/feeds?application_name=x', 'node', 5433)).toBe(
      'postgres://u@/feeds?host=node&port=5433&application_name=x',
    );
  });

  test('must accept writes unless the URL says otherwise, and a single host is not checked', () => {
    const target = (url: string) => readHosts(url).target;
    expect(target('postgres://a,b/feeds')).toBe('read-write');
    expect(target('postgres://a/feeds')).toBeUndefined();
    expect(target('postgres://a/feeds?target_session_attrs=primary')).toBe('primary');
    expect(target('postgres://a,b/feeds?target_session_attrs=prefer-standby')).toBe('prefer-standby');
  });

  test.each([
    ['postgres://u:hunter2@a,b/feeds?target_session_attrs=master', 'target_session_attrs'],
    ['postgres://u:hunter2@a,b/feeds?load_balance_hosts=yes', 'load_balance_hosts'],
    ['postgres://u:hunter2@a,b/feeds?connect_timeout=soon', 'connect_timeout'],
    ['postgres://u:hunter2@a,b,c/feeds?port=1,2', '2 ports for 3 hosts'],
    ['postgres://u:hunter2@a:x,b/feeds', 'the host a:x'],
    ['mysql://u:hunter2@a,b/feeds', 'cannot be read'],
  ])('of %s cannot be read, and the error names the reason without the password', (url, why) => {
    expect(() => readHosts(url)).toThrow(expect.objectContaining({ code: 'CONFIG_INVALID' }));
    expect(() => readHosts(url)).toThrow(why);
    expect(() => readHosts(url)).toThrow(expect.not.stringContaining('hunter2'));
  });

  test('are shown without the password', () => {
    expect(withoutPassword('postgres://u:hunter2@a:1,b:2/feeds?password=hunter2')).toBe(
      'postgres://u:***@a:1,b:2/feeds?password=***',
    );
  });
});

const opened = (url: string) => {
  const db = new Database(url);
  onTestFinished(() => db.close());
  return db;
};
const portOf = async (db: Database) =>
  Number((await db.query<{ port: string }>(`select inet_server_port() as port`)).rows[0]!.port);
const portIn = ({ address }: ReplicatedServer) => Number(address.split(':')[1]);

test('a session is opened at the first host that fits target_session_attrs', async () => {
  const { primary, standby } = await startReplicated();
  const [dead] = await freePorts(1);
  const hosts = `${standby.address},127.0.0.1:${dead},${primary.address}`;
  const at = (query: string, list = hosts) => opened(`postgres://feedctl@${list}/feedctl${query}`);
  const [main, second] = [portIn(primary), portIn(standby)];
  for (const [query, port] of [
    ['', main],
    ['?target_session_attrs=read-write', main],
    ['?target_session_attrs=primary', main],
    ['?target_session_attrs=any', second],
    ['?target_session_attrs=standby', second],
    ['?target_session_attrs=read-only', second],
    ['?target_session_attrs=prefer-standby', second],
  ] as const)
    expect(await portOf(at(query)), query).toBe(port);
  expect(await portOf(at('?target_session_attrs=prefer-standby', primary.address))).toBe(main);
  const found = new Set<number>();
  while (found.size < 2) found.add(await portOf(at('?target_session_attrs=any&load_balance_hosts=random')));
  expect([...found].toSorted()).toEqual([main, second].toSorted());

  const several = at('');
  await migrate(several);
  await checkSessionsKept(several.server);
  const heard: string[] = [];
  await several.listen(['words'], { onNotify: (_, word) => heard.push(word) });
  await several.query(`notify words, 'word'`);
  await expect.poll(() => heard).toEqual(['word']);
  const readers = at('?target_session_attrs=any&load_balance_hosts=random');
  for (let i = 0; i < 4; i += 1) {
    // A standby lets no session listen.
    const error = await checkSessionsKept(readers.server).catch((reason: unknown) => reason);
    if (error) expect(error).toMatchObject({ code: 'DATABASE_READ_ONLY' });
  }

  const refused = await rejection(at('', `${standby.address},127.0.0.1:${dead}`).ping());
  expect(refused).toMatchObject({ code: 'DATABASE_READ_ONLY' });
  expect(refused.message).toContain(
    `${standby.address} is a standby; 127.0.0.1:${dead} connect ECONNREFUSED`,
  );
  const none = await rejection(at('?target_session_attrs=standby', primary.address).ping());
  expect(none).toMatchObject({ code: 'DATABASE_UNREACHABLE' });
  expect(none.message).toContain(`${primary.address} is a primary`);
  const any = at('?target_session_attrs=any');
  expect(await rejection(any.withSession((session) => checkWritable(session, any.url)))).toMatchObject({
    code: 'DATABASE_READ_ONLY',
    suggestions: [expect.stringContaining('target_session_attrs')],
  });
  await primary.kill();
  const dark = await rejection(at('', `${primary.address},127.0.0.1:${dead}`).ping());
  expect(dark).toMatchObject({ code: 'DATABASE_UNREACHABLE' });
  expect(dark.message).toContain(primary.address);
});

test('a host that refuses the user ends the search, as its answer is the reason', async () => {
  const { primary, standby } = await startReplicated();
  const db = opened(`postgres://stranger:hunter2@${standby.address},${primary.address}/feedctl`);
  const refused = await rejection(db.ping());
  expect(refused).toMatchObject({ code: 'DATABASE_REFUSED' });
  expect(refused.message).not.toContain('hunter2');
});

test('a host that does not answer leaves time for the next one, and later sessions do not ask it again', async () => {
  const { url } = await freshDatabase();
  const [silent, working] = [await openProxy(url), await openProxy(url)];
  silent.stall();
  const of = (proxy: { url: string }) => new URL(proxy.url).host;
  const name = new URL(working.url).pathname;
  const hosts = `postgres://feedctl@${of(silent)},${of(working)}${name}`;
  const db = new Database(hosts, { connectMs: 2_000, maxSessions: 3 });
  onTestFinished(() => db.close());
  await db.ping();
  expect(db.server.lastHost).toBe(of(working));
  await Promise.all([1, 2, 3].map(() => db.query('select pg_sleep(0.1)')));
  expect(silent.connections()).toBe(1);
  await opened(`${hosts}?connect_timeout=1`).ping();
  const silence = new Database(`postgres://feedctl@${of(silent)},${of(silent)}${name}`, { connectMs: 400 });
  onTestFinished(() => silence.close());
  const refused = await rejection(silence.query('select 1'));
  expect(refused).toMatchObject({ code: 'DATABASE_UNREACHABLE' });
  expect(refused.message).toContain(`${of(silent)} timeout expired`);
});
