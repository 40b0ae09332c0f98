import { expect, test } from 'vitest';
import { firstIdAt, timeOfId } from '../../src/engine/model/ids.ts';
import { feedctl, testRole } from '../support/cli.ts';
import { canFakeTime, type MachineClock, machineClock } from '../support/faketime.ts';
import { FOUNDATIONS, httpClient, spawnedCluster } from '../support/spawnedCluster.ts';

/** Each command is a process, and a busy machine starts one in seconds. */
const LONG = { timeout: 180_000 };

interface Check {
  name: string;
  status: string;
  detail: string;
}

/** A cluster with user 1, whose follower is user 2, and gateways with clocks that the test sets. */
async function clockedCluster() {
  const cluster = await spawnedCluster(FOUNDATIONS[0]);
  for (const id of ['1', '2']) await cluster.json('user', 'create', '--id', id);
  await cluster.json('follow', 'create', '2', '1');
  const tokens = { author: await cluster.token(1), reader: await cluster.token(2) };
  const on = ({ env }: MachineClock) => ({ ...cluster.at, env: { ...cluster.at.env, ...env } });
  return {
    ...cluster,
    // A fault of a role, which is reported for some seconds longer, is an exit status.
    async doctor(clock?: MachineClock) {
      const { stdout } = await feedctl(['doctor', '--json'], clock ? on(clock) : cluster.at);
      return (JSON.parse(stdout) as { checks: Check[] }).checks;
    },
    workerOn: (clock: MachineClock, ready = true) => testRole(['worker', 'start'], on(clock), ready),
    async gatewayOn(clock: MachineClock, ready = true) {
      const role = await testRole(['gateway', 'start', '--port', '0'], on(clock), ready);
      const { gatewayUrl: url } = JSON.parse(role.stdout()) as { gatewayUrl: string };
      const [author, reader] = [httpClient(url, tokens.author), httpClient(url, tokens.reader)];
      const get = (path: string) => fetch(new URL(path, url));
      await expect.poll(async () => (await get('/healthz')).status).toBe(200);
      return { role, url, get, author, reader, token: tokens.author };
    },
  };
}

const able = canFakeTime();

test.skipIf(!able)(
  'roles whose clock is an hour ahead mint nothing and are not ready, and all that asks says so',
  LONG,
  async () => {
    const cluster = await clockedCluster();
    const clock = await machineClock(3_600);
    const worker = await cluster.workerOn(clock, false);
    const gateway = await cluster.gatewayOn(clock, false);
    for (const role of [worker, gateway.role])
      expect(JSON.parse(role.stdout())).toMatchObject({
        ready: false,
        notReady: { code: 'CLOCK_OFF', message: expect.stringMatching(/ahead/) },
      });
    const listed = async () =>
      (await cluster.json<{ workers: { ready: boolean }[] }>('worker', 'list')).workers.map(
        ({ ready }) => ready,
      );
    await expect
      .poll(async () => (await gateway.get('/readyz')).json())
      .toMatchObject({ status: 503, code: 'CLOCK_OFF' });
    await expect.poll(listed).toEqual([false]);
    const refused = await fetch(new URL('/post/create', gateway.url), {
      method: 'POST',
      headers: { authorization: `Bearer ${gateway.token}`, 'content-type': 'application/json' },
      body: '{"text":"from the future"}',
    });
    expect(refused.status).toBe(503);
    expect(refused.headers.get('retry-after')).toBe('10');
    expect(await refused.json()).toMatchObject({ code: 'CLOCK_OFF' });
    expect(await cluster.sql('select id from posts')).toEqual([]);
    expect(await gateway.reader.feed()).toEqual([]);
    const metrics = await (await gateway.get('/metrics')).text();
    const shown = Number(/^feedctl_clock_offset_seconds (\S+)$/m.exec(metrics)?.[1]);
    expect(Math.round(shown / 100)).toBe(36);

    const checks = async () => {
      const { stdout } = await cluster.run('doctor', '--json');
      return (JSON.parse(stdout) as { checks: Check[] }).checks.map(
        ({ name, detail }) => `${name} ${detail}`,
      );
    };
    for (const kind of ['worker', 'gateway'])
      await expect
        .poll(checks, { timeout: 30_000 })
        .toContainEqual(expect.stringMatching(new RegExp(`^${kind} [0-9a-f]{8} CLOCK_OFF at `)));

    await clock.set(2);
    await expect.poll(async () => (await gateway.get('/readyz')).status).toBe(200);
    await expect.poll(listed).toEqual([true]);
    for (const role of [worker, gateway.role])
      await expect.poll(() => role.stderr()).toMatch(/^(Worker|Gateway) \S+ is ready\.$/m);
    const id = await gateway.author.post('on time');
    await expect.poll(() => gateway.reader.feed()).toEqual([id]);
    for (const role of [worker, gateway.role]) {
      expect(role.stderr().match(/differs too much/g), role.stderr()).toHaveLength(1);
      expect(role.stderr().match(/the clock is right again/g)).toHaveLength(1);
    }
    const byClock = (checks: Check[]) => checks.find(({ name }) => name === 'clock');
    expect(byClock(await cluster.doctor())).toMatchObject({ status: 'ok' });
    expect(byClock(await cluster.doctor(await machineClock(-90)))).toMatchObject({
      status: 'warning',
      detail: expect.stringMatching(/^(89|90|91) s behind the database's$/),
    });
  },
);

test.skipIf(!able)(
  'posts of gateways whose clocks differ by two seconds are in the order of posting',
  LONG,
  async () => {
    const cluster = await clockedCluster();
    const ahead = await cluster.gatewayOn(await machineClock(2));
    const right = await cluster.gatewayOn(await machineClock(0));
    const behind = await cluster.gatewayOn(await machineClock(-2));
    const gateways = [ahead, right, behind, ahead, behind, right, ahead];
    for (const { get } of gateways) await expect.poll(async () => (await get('/readyz')).status).toBe(200);
    const posted: string[] = [];
    const startedAt = Date.now();
    for (const { author } of gateways) posted.push(await author.post(`post ${posted.length}`));
    const endedAt = Date.now();
    expect(await right.author.feed()).toEqual(posted.toReversed());
    for (const { id, created } of await cluster.sql<{ id: string; created: Date }>(
      'select id, created_at as created from posts',
    )) {
      // The database of the tests is on this machine.
      expect(timeOfId(Number(id))).toBeGreaterThan(startedAt - 1_000);
      expect(timeOfId(Number(id))).toBeLessThan(endedAt + 1_000);
      expect(Math.abs(created.getTime() - timeOfId(Number(id)))).toBeLessThan(1_000 + endedAt - startedAt);
    }
  },
);

test.skipIf(!able)(
  'a clock that is set under a running gateway makes no post wait, and ids go on rising',
  LONG,
  async () => {
    const cluster = await clockedCluster();
    const clock = await machineClock(0);
    const { author, get } = await cluster.gatewayOn(clock);
    const posted: string[] = [];
    const post = async () => posted.push(await author.post(`post ${posted.length}`));
    for (const seconds of [0, -3, 3, -4, 0]) {
      await clock.set(seconds);
      for (let i = 0; i < 3; i += 1) await post();
    }
    await clock.set(-45);
    // Waiting for the clock would take 45 s each.
    for (let i = 0; i < 3; i += 1)
      expect(await author.call('POST', '/post/create', { text: 'refused' })).toMatchObject({
        status: 503,
        body: { code: 'CLOCK_OFF' },
      });
    expect((await get('/readyz')).status).toBe(503);
    await clock.set(-1);
    await post();
    await expect.poll(async () => (await get('/readyz')).status).toBe(200);
    const ids = posted.map(Number);
    expect(ids).toEqual([...new Set(ids)].sort((a, b) => a - b));
    expect(ids.at(-1)).toBeLessThan(firstIdAt(Date.now() + 1_000));
  },
);
