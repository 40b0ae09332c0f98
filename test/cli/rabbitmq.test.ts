import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { gunzipSync } from 'node:zlib';
import { describe, expect, onTestFinished, test } from 'vitest';
import { freshVhost } from '../support/broker.ts';
import {
  DEMO_ACTIVITY,
  DEMO_GRAPH,
  emptyDatabase,
  feedctl,
  json,
  NOTHING_WRONG,
  sql,
  start,
  temporaryDirectory,
  waitUntil,
} from '../support/cli.ts';
import { file } from '../support/files.ts';
import { management, startRabbit } from '../support/rabbitmq.ts';
import { findServer } from '../support/server.ts';

const server = await findServer('rabbitmq');
/** Twenty and more by hand: FEEDCTL_ROUNDS=20. */
const ROUNDS = Number(process.env.FEEDCTL_ROUNDS ?? 2);

interface At {
  readonly env: Record<string, string>;
}

async function seededCluster(name: string, brokerUrl: string): Promise<{ at: At; databaseUrl: string }> {
  const databaseUrl = await emptyDatabase(name);
  const at = { env: { FEEDCTL_DATABASE_URL: databaseUrl, FEEDCTL_BROKER_URL: brokerUrl } };
  expect(await json(['migrate', '--partitions', '4'], at)).toMatchObject({ partitions: 4, pending: [] });
  await json(['seed', 'graph', DEMO_GRAPH], at);
  return { at, databaseUrl };
}

async function startWorker(at: At) {
  const worker = start(['worker', 'start', '--json'], at);
  await worker.printed(/"ready": true/);
  return worker;
}

/** The demo's posts in parts that share no second: each is an import of its own. */
async function parts(count: number): Promise<string[]> {
  const lines = gunzipSync(readFileSync(DEMO_ACTIVITY)).toString().trim().split('\n');
  const second = (line: string) => line.split(/\s+/)[2];
  const files: string[] = [];
  let from = 0;
  for (let part = 1; part <= count; part += 1) {
    let to = part === count ? lines.length : Math.floor((lines.length * part) / count);
    while (to < lines.length && second(lines[to]!) === second(lines[to - 1]!)) to += 1;
    files.push(await file(`${lines.slice(from, to).join('\n')}\n`, `part${part}.txt`));
    from = to;
  }
  return files;
}

const rowsIn = async (databaseUrl: string): Promise<number> =>
  Number((await sql<{ n: string }>(databaseUrl, 'select count(*) as n from feed_items'))[0]!.n);

interface Status {
  queues: { queue: string; ready: number; unacked: number; deadLetters: number }[];
  components: { name: string; kind: string; version: string; ready: boolean }[];
}

/** `status` exits 1 here, as there is no gateway. */
async function status(at: At): Promise<Status> {
  const { stdout } = await feedctl(['status', '--json'], at);
  return JSON.parse(stdout) as Status;
}

const COUNT_POSTS = 'select count(*) as n from posts';

const undispatched = async (databaseUrl: string): Promise<number> =>
  Number(
    (
      await sql<{ n: string }>(databaseUrl, 'select count(*) as n from events where dispatched_at is null')
    )[0]!.n,
  );

/** Returns whether the queues are empty twice in a row: reported counts in flight are a second old. */
async function staysEmpty(at: At): Promise<boolean> {
  const isEmpty = async () => (await status(at)).queues.every(({ ready, unacked }) => ready + unacked === 0);
  if (!(await isEmpty())) return false;
  await sleep(1_500);
  return isEmpty();
}

async function expectWhole(at: At): Promise<void> {
  expect(await json(['feed', 'verify', '--all'], at)).toMatchObject(NOTHING_WRONG);
  const { queues } = await status(at);
  expect(queues.filter((queue) => queue.deadLetters > 0)).toEqual([]);
}

describe.skipIf(!server)('a cluster on RabbitMQ', () => {
  test('kill -9 of workers in the middle of their work', { timeout: 120_000 + ROUNDS * 30_000 }, async () => {
    const { url } = await freshVhost(server!);
    const { at, databaseUrl } = await seededCluster('rabbit_kill', url);
    const workers = [await startWorker(at), await startWorker(at)];
    for (const part of await parts(ROUNDS)) {
      const before = await rowsIn(databaseUrl);
      const replay = start(['replay', part, '--json'], at);
      await waitUntil(async () => (await rowsIn(databaseUrl)) > before);
      const victim = workers.shift()!;
      victim.child.kill('SIGKILL');
      expect((await victim.ended).status).toBe('SIGKILL');
      workers.push(await startWorker(at));
      const replayed = await replay.ended;
      expect(replayed, replayed.stdout + replayed.stderr).toMatchObject({ status: 0 });
    }
    await expectWhole(at);
    for (const worker of workers) {
      worker.child.kill('SIGTERM');
      expect(await worker.ended).toMatchObject({ status: 0 });
    }
  });

  test('a worker is killed while many unfollow: no row of those they followed is left', {
    timeout: 180_000,
  }, async () => {
    const { url } = await freshVhost(server!);
    const { at, databaseUrl } = await seededCluster('rabbit_unfollow', url);
    const victim = await startWorker(at);
    const worker = await startWorker(at);
    const [first, second] = (await parts(2)) as [string, string];
    await json(['replay', first], at);
    // Plans with those who unfollow are under way meanwhile.
    const replay = start(['replay', second, '--json'], at);
    await sql(
      databaseUrl,
      `with gone as (delete from follows where (follower_id, followee_id) in
                       (select follower_id, followee_id from follows
                        order by md5(follower_id::text || followee_id) limit 3000)
                     returning *)
       insert into events (id, aggregate_id, subject_id, type, occurred_at, data)
       select (select max(id) from events) + row_number() over (), follower_id, followee_id, 'follow.deleted',
              now() - interval '3 s', '{}' from gone`,
    );
    const inHand = async () => {
      const { queues } = await status(at);
      // Cleanups that wait for a barrier are in flight too, and counted as ready.
      return queues.some(({ queue, ready, unacked }) => queue === 'cleanup' && ready + unacked > 0);
    };
    await waitUntil(inHand);
    victim.child.kill('SIGKILL');
    await replay.ended;
    await waitUntil(async () => (await undispatched(databaseUrl)) === 0);
    await waitUntil(() => staysEmpty(at));
    await expectWhole(at);
    worker.child.kill('SIGTERM');
    expect(await worker.ended).toMatchObject({ status: 0 });
  });

  test('a replay whose broker goes away is partly done, and the same command continues it', {
    timeout: 300_000,
  }, async () => {
    const rabbit = await startRabbit(await temporaryDirectory());
    onTestFinished(() => rabbit.stop());
    const { at, databaseUrl } = await seededCluster('rabbit_partly', rabbit.url);
    const [first, second] = (await parts(2)) as [string, string];
    const worker = await startWorker(at);
    for (const [part, how] of [
      [first, 'stop'] as const,
      ...(ROUNDS > 2 ? [[second, 'kill'] as const] : []),
    ]) {
      // A paused lane keeps the replay from its end until the broker is away.
      await json(['fanout', 'pause', '--lane', 'bulk'], at);
      const posts = async () => Number((await sql<{ n: string }>(databaseUrl, COUNT_POSTS))[0]!.n);
      const before = await posts();
      const replay = start(['replay', part, '--json'], at);
      await waitUntil(async () => (await posts()) > before);
      await rabbit.down(how);
      const { status, stdout } = await replay.ended;
      expect({ status, ...JSON.parse(stdout) }).toMatchObject({
        status: 3,
        error: {
          code: 'BROKER_UNREACHABLE',
          message: expect.stringContaining('delivered all the same'),
          suggestions: [expect.stringContaining('Run the same command again'), expect.any(String)],
        },
      });
      await rabbit.up();
      await json(['fanout', 'resume', '--lane', 'bulk'], at);
      await json(['replay', part], at);
    }
    await waitUntil(() => staysEmpty(at));
    await expectWhole(at);
    worker.child.kill('SIGTERM');
    expect(await worker.ended).toMatchObject({ status: 0 });
  });

  test('what is wrong with the broker is said, with its cure, by commands and by doctor', async () => {
    const { url, managementUrl } = await freshVhost(server!);
    const databaseUrl = await emptyDatabase('rabbit_errors');
    const env = (brokerUrl: string) => ({
      env: {
        FEEDCTL_DATABASE_URL: databaseUrl,
        FEEDCTL_BROKER_URL: brokerUrl,
        FEEDCTL_BROKER_MANAGEMENT_URL: managementUrl,
      },
    });
    await json(['migrate'], env(url));
    const other = (change: (url: URL) => void) => {
      const changed = new URL(url);
      change(changed);
      return changed.href;
    };
    await management(managementUrl, 'PUT', 'users/stranger', { password: 'hunter2', tags: '' });
    await management(managementUrl, 'PUT', 'vhosts/full');
    await management(managementUrl, 'PUT', 'vhost-limits/full/max-connections', { value: 0 });
    onTestFinished(async () => {
      await management(managementUrl, 'DELETE', 'users/stranger');
      await management(managementUrl, 'DELETE', 'vhosts/full');
    });
    const wrong: [string, string, RegExp][] = [
      ['BROKER_REFUSED', other((one) => (one.password = 'hunter2')), /user \w+ or the password/],
      ['BROKER_VHOST_UNKNOWN', other((one) => (one.pathname = '/nowhere')), /no virtual host nowhere$/],
      [
        'BROKER_REFUSED',
        other((one) => {
          one.username = 'stranger';
          one.password = 'hunter2';
        }),
        /stranger may not use the virtual host/,
      ],
      ['BROKER_REFUSED', other((one) => (one.pathname = '/full')), /connection limit/],
      ['BROKER_UNREACHABLE', other((one) => (one.port = '1')), /127\.0\.0\.1:1/],
      ['BROKER_TLS_FAILED', other((one) => (one.protocol = 'amqps')), /TLS/],
      ['CONFIG_INVALID', other((one) => one.searchParams.set('cacertfile', '/nowhere.pem')), /nowhere\.pem/],
    ];
    for (const [code, brokerUrl, says] of wrong) {
      for (const command of [['migrate'], ['worker', 'start']]) {
        const failed = await feedctl([...command, '--json'], env(brokerUrl));
        expect(failed.status, failed.stdout).toBe(code === 'CONFIG_INVALID' ? 2 : 1);
        const { error } = JSON.parse(failed.stdout) as {
          error: { code: string; message: string; suggestions: string[] };
        };
        expect(error).toMatchObject({ code, message: expect.stringMatching(says) });
        expect(error.suggestions.length).toBeGreaterThan(0);
        expect(failed.stdout + failed.stderr).not.toContain('hunter2');
      }
      const doctor = await feedctl(['doctor', '--json'], env(brokerUrl));
      expect(doctor.status).toBe(1);
      const { checks } = JSON.parse(doctor.stdout) as { checks: { name: string; status: string }[] };
      expect(checks).toContainEqual(
        expect.objectContaining({ name: code, status: 'fault', fix: expect.any(String) }),
      );
      expect(doctor.stdout + doctor.stderr).not.toContain('hunter2');
    }
    const broker = async () => {
      const { stdout } = await feedctl(['doctor', '--json'], env(url));
      const { checks } = JSON.parse(stdout) as { checks: { name: string; status: string; detail: string }[] };
      return checks.filter((check) => check.name.startsWith('broker') || check.name.startsWith('BROKER'));
    };
    expect((await broker()).map(({ name, status }) => [name, status])).toEqual([
      ['broker', 'ok'],
      ['broker owner', 'ok'],
      ['broker plugin', 'ok'],
      ['broker queues', 'ok'],
      ['broker alarms', 'ok'],
      ['broker policies', 'ok'],
    ]);
    // One of several that is away endangers nothing yet; its password is shown no more than the first one's.
    const several = await feedctl(
      ['doctor', '--json'],
      env(`${other((one) => (one.port = '1'))},${other((one) => (one.password = 'guest'))}`),
    );
    expect(several.stdout).toMatch(/"name": "BROKER_UNREACHABLE",\s+"status": "warning"/);
    expect(several.stdout).not.toMatch(/:guest@/);
    const vhost = new URL(url).pathname.slice(1);
    await management(managementUrl, 'PUT', `policies/${vhost}/careless`, {
      pattern: '^feed',
      definition: { 'message-ttl': 60_000 },
      'apply-to': 'queues',
    });
    await management(managementUrl, 'DELETE', `queues/${vhost}/feed.cleanup`);
    expect(await broker()).toEqual(
      expect.arrayContaining([
        expect.objectContaining({
          name: 'broker policies',
          status: 'fault',
          detail: expect.stringContaining('careless'),
        }),
        expect.objectContaining({
          name: 'broker queues',
          status: 'warning',
          detail: expect.stringContaining('feed.cleanup'),
        }),
      ]),
    );
    await management(managementUrl, 'PUT', `queues/${vhost}/feed.cleanup`, { durable: true });
    expect(await broker()).toContainEqual(
      expect.objectContaining({ name: 'BROKER_TOPOLOGY_MISMATCH', status: 'fault' }),
    );
    const { components } = await status(env(url));
    expect(components).toContainEqual(
      expect.objectContaining({
        name: 'bus',
        kind: 'RabbitMQ',
        ready: true,
        version: expect.stringMatching(/^\d+\.\d+/),
      }),
    );
    const away = await status(env(other((one) => (one.port = '1'))));
    expect(away.components).toContainEqual(expect.objectContaining({ name: 'bus', ready: false }));
  }, 180_000);
});
