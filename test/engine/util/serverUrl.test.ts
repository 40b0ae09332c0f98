import { expect, onTestFinished, test, vi } from 'vitest';
import { Database } from '../../../src/engine/database/database.ts';
import { ServerUrl } from '../../../src/engine/util/serverUrl.ts';
import { startReplicated } from '../../support/standby.ts';

test('a URL is read again at once after a refusal, one time for all sessions that were refused', async () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  onTestFinished(() => void vi.useRealTimers());
  let reads = 0;
  const url = new ServerUrl('one', async () => {
    reads += 1;
    return 'two';
  });
  // Only a role follows the source.
  vi.advanceTimersByTime(60_000);
  expect(await url.latest()).toBe('one');
  expect(reads).toBe(0);
  expect(await Promise.all([1, 2, 3].map(() => url.afterRefusal('one')))).toEqual(['two', 'two', 'two']);
  expect(await url.afterRefusal('one')).toBe('two');
  expect(reads).toBe(1);
});

test('a password that stays wrong does not read the source with each connection', async () => {
  let reads = 0;
  const url = new ServerUrl('one', async () => {
    reads += 1;
    return 'one';
  });
  for (let i = 0; i < 10; i += 1) expect(await url.afterRefusal('one')).toBe('one');
  expect(reads).toBeLessThan(10);
});

test('a source that cannot be read leaves the known URL, and is reported once', async () => {
  let fault: string | undefined = 'gone';
  const url = new ServerUrl('one', async () => {
    if (fault) throw new Error(fault);
    return 'two';
  });
  const reported: string[] = [];
  url.follow((reason) => reported.push(reason));
  // Each derived URL asks the source by itself.
  const ask = () => url.derive((text) => `${text}!`).afterRefusal('one!');
  expect([await ask(), await ask(), reported]).toEqual(['one!', 'one!', ['gone']]);
  fault = undefined;
  expect(await ask()).toBe('two!');
  expect(url.current).toBe('two');
});

test('a session uses the password of now, although the known one is fresh', async () => {
  const { primary } = await startReplicated();
  const admin = new Database(primary.url);
  onTestFinished(() => admin.close());
  await admin.query(`create role app login password 'two'`);
  const url = (password: string) => `postgres://app:${password}@${primary.address}/feedctl`;
  const db = new Database(new ServerUrl(url('one'), async () => url('two')));
  onTestFinished(() => db.close());
  await db.ping();
  expect(db.url).toBe(url('two'));
});

test('a role reads the source again for a new connection if the known URL is old', async () => {
  vi.useFakeTimers({ toFake: ['performance'] });
  onTestFinished(() => void vi.useRealTimers());
  let password = 'one';
  const url = new ServerUrl(password, async () => password);
  url.follow(() => {});
  password = 'two';
  expect(await url.latest()).toBe('one');
  vi.advanceTimersByTime(2_001);
  expect(await Promise.all([url.latest(), url.derive((text) => `${text}!`).latest()])).toEqual([
    'two',
    'one!',
  ]);
});
