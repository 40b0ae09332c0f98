import { Redis } from 'ioredis';
import { describe, expect, onTestFinished, test } from 'vitest';
import { Database } from '../../src/engine/database/database.ts';
import { ERASE_STEPS, type EraseResult, residueOf } from '../../src/engine/erasure/eraseUser.ts';
import { decodeEvents, encodeEvents, packIds } from '../../src/engine/model/messages.ts';
import { NOTHING_WRONG, type Outcome, start, waitUntil } from '../support/cli.ts';
import { FeedClient } from '../support/feedClient.ts';
import {
  EVERY_FOUNDATION,
  FOUNDATIONS,
  httpClient,
  type SpawnedCluster,
  spawnedCluster,
} from '../support/spawnedCluster.ts';

const MARKER = 'gone-for-good-7f3a';
const FOLLOWERS = 30;

/** Every row of every table that holds these, in whatever column: nothing here knows what the tables mean. */
async function rowsHolding(cluster: SpawnedCluster, words: readonly string[]): Promise<string[]> {
  const tables = await cluster.sql<{ name: string }>(
    `select n.nspname || '.' || c.relname as name
     from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname in ('public', 'bus') and c.relkind in ('r', 'p') and not c.relispartition`,
  );
  const found: string[] = [];
  for (const { name } of tables) {
    const holding = words.map((word) => `t::text like '%${word}%'`).join(' or ');
    for (const { row } of await cluster.sql<{ row: string }>(
      `select t::text as row from ${name} t where ${holding}`,
    ))
      found.push(`${name}: ${row}`);
  }
  return found;
}

/** The audit trail may keep that somebody was erased. */
const isAudit = (row: string): boolean => /^public\.operations: \(\d+,"?user erase/.test(row);

async function keysHolding(url: string | undefined, bytes: readonly Buffer[]): Promise<string[]> {
  if (!url) return [];
  const redis = new Redis(url);
  const found: string[] = [];
  for (const key of await redis.keysBuffer('*')) {
    const value = await redis.getBuffer(key).catch(() => null);
    if (bytes.some((part) => key.includes(part) || value?.includes(part))) found.push(key.toString('latin1'));
  }
  redis.disconnect();
  return found;
}

const errorOf = ({ stdout }: Outcome) => (JSON.parse(stdout) as { error: { code: string } }).error.code;

async function register(gatewayUrl: string, name: string): Promise<number> {
  const response = await fetch(new URL('/user/register', gatewayUrl), {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      first_name: name,
      second_name: MARKER,
      age: 30,
      biography: `${MARKER} biography`,
      city: MARKER,
      password: 'a long password',
    }),
  });
  expect(response.status).toBeLessThan(300);
  return Number(((await response.json()) as { user_id: string }).user_id);
}

/** Erases; killed with -9 once after each step, and run again. */
async function eraseKilled(
  cluster: SpawnedCluster,
  userId: number,
  whileWaiting: () => Promise<void>,
): Promise<EraseResult> {
  const erase = ['user', 'erase', String(userId), '--yes', String(userId), '--json'];
  /** A process that was killed after the end, and before it said so, has left nothing to the next one. */
  const first = async ({ stdout }: Outcome): Promise<EraseResult> => {
    const [row] = await cluster.sql<{ result: object }>(
      `select result from operations where kind = 'user erase' and key = '${userId}' and state = 'done' order by id limit 1`,
    );
    return { ...(JSON.parse(stdout) as EraseResult), ...row?.result };
  };
  let waited = false;
  let runs = 0;
  for (let finished = 0; finished < ERASE_STEPS.length; finished += 1) {
    const killed = start(erase, cluster.at);
    let ended = false;
    void killed.ended.then(() => {
      ended = true;
    });
    await waitUntil(async () => {
      const [row] = await cluster.sql<{ steps: string[] | null; runs: string }>(
        `select progress->'steps' as steps, runs from operations
         where kind = 'user erase' and key = '${userId}' and state = 'running' order by id desc limit 1`,
      );
      // A process that has not begun its run does not handle signals yet.
      if (Number(row?.runs ?? 0) <= runs) return ended;
      const steps = row?.steps ?? [];
      if (!waited && steps.includes('sockets')) {
        waited = true;
        // It waits for rows in flight that no worker takes: Ctrl-C leaves it resumable.
        killed.child.kill('SIGINT');
        const { status, stdout } = await killed.ended;
        expect([status, errorOf({ stdout } as Outcome)]).toEqual([3, 'INTERRUPTED']);
        await whileWaiting();
      }
      return ended || steps.length > finished;
    });
    const [saved] = await cluster.sql<{ runs: string | null }>(
      `select max(runs) as runs from operations where kind = 'user erase' and key = '${userId}'`,
    );
    runs = Number(saved?.runs ?? 0);
    killed.child.kill('SIGKILL');
    const outcome = await killed.ended;
    // The last steps are quick.
    if (outcome.status === 0) return first(outcome);
  }
  for (;;) {
    const outcome = await cluster.run(...erase);
    if (outcome.status === 1 && 'error' in JSON.parse(outcome.stdout)) {
      expect(errorOf(outcome), outcome.stdout).toBe('OPERATION_RUNNING');
      continue;
    }
    expect(outcome, outcome.stdout + outcome.stderr).toMatchObject({ status: 0 });
    return first(outcome);
  }
}

const foundations = FOUNDATIONS.filter(({ broker, citus }) => EVERY_FOUNDATION || broker || citus);

describe.each(foundations)('on $name', (foundation) => {
  const cases = [{ celebrity: false }, { celebrity: true }].filter(
    ({ celebrity }) => EVERY_FOUNDATION || (celebrity ? foundation.citus : foundation.broker),
  );
  test.skipIf(foundation.missing).each(cases)(
    'nothing is left of a user who is erased (celebrity: $celebrity), whatever was on its way and wherever it was killed',
    { timeout: 400_000 },
    async ({ celebrity }) => {
      const cluster = await spawnedCluster(foundation);
      const { gatewayUrl } = await cluster.gateway();
      const worker = await cluster.worker();
      const erased = await register(gatewayUrl, 'Erased');
      const other = await register(gatewayUrl, 'Other');
      await cluster.sql(`update users set second_name = '', biography = '', city = '' where id = ${other}`);
      const clients = new Map<number, ReturnType<typeof httpClient>>();
      for (const id of [erased, other]) clients.set(id, httpClient(gatewayUrl, await cluster.token(id)));
      const [me, them] = [clients.get(erased)!, clients.get(other)!];
      const followers: number[] = [];
      for (let n = 0; n < FOLLOWERS; n += 1) {
        const { user_id } = (await (
          await fetch(new URL('/user/register', gatewayUrl), {
            method: 'POST',
            headers: { 'content-type': 'application/json' },
            body: JSON.stringify({
              first_name: 'F',
              second_name: 'F',
              age: 20,
              biography: '',
              city: '',
              password: 'a long password',
            }),
          })
        ).json()) as { user_id: string };
        followers.push(Number(user_id));
        if (n >= 3) continue;
        clients.set(Number(user_id), httpClient(gatewayUrl, await cluster.token(Number(user_id))));
      }
      // Follows of the others straight to the tables: what is looked at are the rows.
      for (const id of followers.slice(3)) {
        await cluster.sql(`insert into follows (follower_id, followee_id) values (${id}, ${erased})`);
        await cluster.sql(`insert into followers (follower_id, followee_id) values (${id}, ${erased})`);
      }
      await cluster.sql(`update users set follower_count = ${FOLLOWERS - 3} where id = ${erased}`);
      for (const id of followers.slice(0, 3))
        for (const whom of [erased, other])
          expect((await clients.get(id)!.call('PUT', `/friend/set/${whom}`)).status).toBe(200);
      for (const whom of [other, followers[0]!])
        expect((await me.call('PUT', `/friend/set/${whom}`)).status).toBe(200);
      expect((await them.call('PUT', `/friend/set/${erased}`)).status).toBe(200);
      const reader = clients.get(followers[0]!)!;
      for (let n = 0; n < 5; n += 1) await me.post(`${MARKER} post ${n}`);
      const kept = await them.post('a post that stays');
      await waitUntil(async () => (await reader.feed()).length === 6 && (await me.feed()).includes(kept));
      if (celebrity) await cluster.json('celebrity', 'mark', String(erased));
      expect((await me.call('POST', '/ticket')).status).toBe(201);
      const socket = new FeedClient(erased, await cluster.token(erased));
      onTestFinished(() => socket.stop());
      await socket.open(gatewayUrl);
      const listening = new FeedClient(followers[0]!, await cluster.token(followers[0]!));
      onTestFinished(() => listening.stop());
      await listening.open(gatewayUrl);
      // A dead letter that names them and somebody else.
      const [theirEvent] = await cluster.sql<{ id: string; post: string }>(
        `select id, subject_id as post from events where aggregate_id = ${other} and type = 'post.created'`,
      );
      const events = [
        { id: 9, type: 'post.created', aggregateId: erased, subjectId: 99 },
        {
          id: Number(theirEvent!.id),
          type: 'post.created',
          aggregateId: other,
          subjectId: Number(theirEvent!.post),
        },
      ] as const;
      const letter = encodeEvents({ importId: 0, committedAt: Date.now() }, events).toString('hex');
      await cluster.sql(
        `insert into bus.dead_letters (id, queue, body, attempts, reason) values (1, 'events', '\\x${letter}', 1, 'test')`,
      );
      const wanted = ['user', 'erase', String(erased)];
      const unasked = await cluster.run(...wanted, '--json');
      expect([unasked.status, errorOf(unasked)]).toEqual([2, 'CONFIRMATION_REQUIRED']);
      const wrong = await cluster.run(...wanted, '--yes', String(other), '--json');
      expect([wrong.status, errorOf(wrong)]).toEqual([2, 'CONFIRMATION_REQUIRED']);
      expect(await cluster.json(...wanted, '--dry-run')).toMatchObject({
        dryRun: true,
        posts: 5,
        followers: FOLLOWERS + 1,
        following: 2,
      });
      expect((await reader.feed()).length).toBe(6);

      // No worker: what is posted now is on its way for as long as that stays so.
      worker.child.kill('SIGKILL');
      await worker.ended;
      for (let n = 5; n < 8; n += 1) await me.post(`${MARKER} post ${n}`);
      await them.post('another that stays');
      const result = await eraseKilled(cluster, erased, async () => {
        // Gone from every feed and everything they could do, though nobody has handled anything yet.
        expect(await reader.feed()).toEqual([kept]);
        expect((await me.call('POST', '/post/create', { text: MARKER })).status).toBe(404);
        await waitUntil(async () => (await me.call('GET', '/post/feed')).status === 404);
        expect(socket.isOpen).toBe(false);
        // A token outlives its user.
        await expect(socket.open(gatewayUrl)).rejects.toThrow('HTTP 401');
        expect((await me.call('POST', '/ticket')).status).toBe(404);
        await cluster.worker();
      });
      expect(result).toMatchObject({
        userId: erased,
        posts: 8,
        followers: FOLLOWERS + 1,
        following: 2,
        left: [],
      });

      const nothing = async () => {
        const rows = await rowsHolding(cluster, [String(erased), MARKER]);
        expect(rows.filter((row) => !isAudit(row))).toEqual([]);
        const redis = cluster.at.env.FEEDCTL_CACHE_URL;
        expect(
          await keysHolding(redis, [packIds([erased]), Buffer.from(String(erased)), Buffer.from(MARKER)]),
        ).toEqual([]);
        const db = new Database(cluster.url);
        expect(await residueOf({ db, sharedCache: undefined }, erased, [MARKER])).toEqual([]);
        await db.close();
      };
      await nothing();
      const [rest] = await cluster.sql<{ body: Buffer }>('select body from bus.dead_letters');
      expect(decodeEvents(rest!.body).events).toEqual([events[1]]);
      // Nothing brings them back.
      await cluster.json('dlq', 'replay', '--all');
      await cluster.json('events', 'redispatch', '--from', '1d');
      await waitUntil(async () => (await reader.feed()).length === 2);
      await nothing();
      const counts = await cluster.sql<{ wrong: string }>(
        `select u.id as wrong from users u where follower_count <> (select count(*) from followers f where f.followee_id = u.id)`,
      );
      expect(counts).toEqual([]);
      expect(await cluster.json('feed', 'verify', '--all')).toMatchObject(NOTHING_WRONG);
      expect(listening.deleted.length, 'the sockets of followers are told').toBeGreaterThan(0);
      const [operations] = await cluster.sql<{ n: string }>(
        `select count(*) as n from operations where kind = 'user erase' and state = 'done'`,
      );
      expect(Number(operations!.n)).toBeGreaterThan(0);
      const again = await cluster.json<EraseResult>(...wanted, '--yes', String(erased));
      expect(again).toMatchObject({ posts: 0, left: [] });
      const nobody = await cluster.run('user', 'erase', '4242', '--yes', '4242', '--json');
      expect([nobody.status, errorOf(nobody)]).toEqual([1, 'USER_NOT_FOUND']);
    },
  );
});
