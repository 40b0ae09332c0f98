import { expect, onTestFinished, test } from 'vitest';
import type { AppliedEvaluation } from '../../src/engine/celebrities/apply.ts';
import type { Evaluation } from '../../src/engine/celebrities/evaluate.ts';
import { NOTHING_WRONG, type Outcome, start, waitUntil } from '../support/cli.ts';
import { file } from '../support/files.ts';
import {
  EVERY_FOUNDATION,
  FOUNDATIONS,
  httpClient,
  type SpawnedCluster,
  spawnedCluster,
} from '../support/spawnedCluster.ts';

type Evaluated = Evaluation & { applied: AppliedEvaluation | null };

/** Author n of five has 10 n followers; nobody is a celebrity. */
async function seeded(cluster: SpawnedCluster): Promise<void> {
  const edges = [1, 2, 3, 4, 5].flatMap((author) =>
    Array.from({ length: 10 * author }, (_, i) => `${100 + i} ${author}`),
  );
  const graph = await file(`${edges.join('\n')}\n`, 'five.edgelist');
  await cluster.json('seed', 'graph', graph, '--celebrity-threshold', '100000');
}

const errorOf = ({ stdout }: Outcome) => (JSON.parse(stdout) as { error: { code: string } }).error.code;

const states = async (cluster: SpawnedCluster): Promise<string[]> =>
  (
    await cluster.sql<{ state: string }>('select push_state as state from users where id <= 5 order by id')
  ).map(({ state }) => state);

/** A follow less or more of author 5, past feedctl's own path: only the count is looked at. */
const setFollowers = (cluster: SpawnedCluster, count: number) =>
  cluster.sql(`update users set follower_count = ${count} where id = 5`);

const foundations = FOUNDATIONS.filter(({ citus }) => EVERY_FOUNDATION || citus);

test.for(foundations)(
  'an evaluation on $name says what it would change, and changes it',
  {
    timeout: 240_000,
  },
  async (foundation, { skip }) => {
    skip(foundation.missing, 'there is no such server');
    const cluster = await spawnedCluster(foundation);
    const evaluate = (...flags: string[]) => cluster.json<Evaluated>('celebrity', 'evaluate', ...flags);
    // Nobody is there yet.
    expect(await evaluate()).toMatchObject({ threshold: 500, changes: [], users: 0, applied: null });
    await seeded(cluster);
    await cluster.worker();
    const { gatewayUrl } = await cluster.gateway();
    for (const author of [4, 5]) {
      const client = httpClient(gatewayUrl, await cluster.token(author));
      for (let n = 0; n < author; n += 1) await client.post(`post ${n}`);
    }
    const rows = async () =>
      Number((await cluster.sql<{ n: string }>('select count(*) as n from feed_items'))[0]!.n);
    await waitUntil(async () => (await rows()) === 4 * 40 + 5 * 50);

    const evaluation = await evaluate('--threshold', '30');
    expect(evaluation).toMatchObject({
      threshold: 30,
      releaseAt: 24,
      celebrities: { now: 0, after: 2 },
      changes: [
        { userId: 5, action: 'mark', followers: 50, postsADay: 5, rowsADay: 250, rows: 250, bytes: 250 * 90 },
        { userId: 4, action: 'mark', followers: 40, postsADay: 4, rowsADay: 160, rows: 160 },
      ],
      pinned: [],
      total: { marks: 2, unmarks: 0, rowsADay: 410, rows: 410 },
      reads: { lookupsARead: { now: 0 }, more: { feeds: 50, mean: 1.8, most: 2 }, fewer: { feeds: 0 } },
      applied: null,
    });
    expect(await states(cluster)).toEqual(['push', 'push', 'push', 'push', 'push']);
    const text = await cluster.run('celebrity', 'evaluate', '--threshold', '30', '--dry-run');
    expect(text).toMatchObject({ status: 0, stderr: '' });
    expect(text.stdout).toContain('2 to mark, 0 to unmark');
    expect(text.stdout).toContain('Fan-out: 410 fewer rows a day');

    // By hand wins: 4 stays pushed, 3 becomes a celebrity.
    await cluster.json('celebrity', 'unmark', '4');
    await cluster.json('celebrity', 'mark', '3');
    const applied = await evaluate('--threshold', '30', '--apply');
    expect(applied).toMatchObject({
      pinned: [{ userId: 4, wouldBe: 'mark' }],
      applied: { marked: 1, unmarked: 0, failed: 0, failures: [] },
    });
    expect(await states(cluster)).toEqual(['push', 'push', 'pull', 'push', 'pull']);
    expect(await evaluate('--threshold', '70')).toMatchObject({
      changes: [{ userId: 5, action: 'unmark', rows: 250 }],
      pinned: [{ userId: 3, wouldBe: 'unmark' }],
      total: { rowsADay: -250, rows: -250 },
    });
    await cluster.json('celebrity', 'unpin', '3');
    expect(await evaluate('--threshold', '70', '--apply')).toMatchObject({ applied: { unmarked: 2 } });
    expect(await states(cluster)).toEqual(['push', 'push', 'push', 'push', 'push']);
    expect(await cluster.json('feed', 'verify', '--all')).toMatchObject(NOTHING_WRONG);

    // Killed while it works, it goes on and finishes.
    for (let round = 0; round < 3; round += 1) {
      const killed = start(
        ['celebrity', 'evaluate', '--threshold', String(5 + round), '--apply'],
        cluster.at,
      );
      await waitUntil(
        async () =>
          (
            await cluster.sql(
              `select 1 from operations where kind = 'celebrity evaluation' and state = 'running'
             and (progress->>'marked')::integer >= ${round}`,
            )
          ).length > 0 || killed.child.exitCode !== null,
      );
      killed.child.kill('SIGKILL');
      await killed.ended;
      let again: Outcome;
      do
        again = await cluster.run(
          'celebrity',
          'evaluate',
          '--threshold',
          String(5 + round),
          '--apply',
          '--json',
        );
      while (again.status === 1 && errorOf(again) === 'OPERATION_RUNNING');
      expect(again, again.stdout).toMatchObject({ status: 0 });
      expect(await states(cluster)).toEqual(['pull', 'pull', 'pull', 'push', 'pull']);
      await evaluate('--threshold', '70', '--apply');
    }
    expect(await cluster.json('feed', 'verify', '--all')).toMatchObject(NOTHING_WRONG);
    expect(await cluster.sql(`select 1 from operations where state = 'running'`)).toEqual([]);
  },
);

test('workers evaluate by the policy, one of them at a time, and who is near the threshold stays', {
  timeout: 180_000,
}, async () => {
  const cluster = await spawnedCluster(FOUNDATIONS[0]);
  await seeded(cluster);
  expect(await cluster.json('celebrity', 'policy')).toEqual({
    threshold: 500,
    releaseAt: 400,
    automatic: false,
    everySeconds: 3600,
    evaluatedAt: null,
    changed: false,
    dryRun: false,
  });
  for (const [code, ...flags] of [
    ['USAGE', '--threshold', '10', '--release-at', '11'],
    ['USAGE', '--every', '1s'],
    ['USAGE', '--every', 'often'],
  ]) {
    const wrong = await cluster.run('celebrity', 'policy', ...flags, '--json');
    expect([wrong.status, errorOf(wrong)], flags.join(' ')).toEqual([2, code]);
  }
  expect(await cluster.json('celebrity', 'policy', '--threshold', '45', '--dry-run')).toMatchObject({
    threshold: 45,
    changed: true,
    dryRun: true,
  });
  expect(await cluster.json('celebrity', 'policy')).toMatchObject({ threshold: 500 });
  const set = ['--threshold', '45', '--release-at', '36', '--automatic', '--every', '10s'];
  expect(await cluster.json('celebrity', 'policy', ...set)).toMatchObject({ automatic: true, changed: true });

  const workers = [await cluster.worker(), await cluster.worker()];
  onTestFinished(() => {
    for (const { child } of workers) child.kill('SIGKILL');
  });
  const runs = () =>
    cluster.sql<{ state: string; result: { marked: number; unmarked: number } }>(
      `select state, result from operations where kind = 'celebrity evaluation' order by id`,
    );
  /** Until another evaluation has begun and ended that saw what is there now. */
  const evaluated = async () => {
    await cluster.sql(`delete from settings where name = 'celebrity.evaluatedAt'`);
    await waitUntil(
      async () =>
        (await cluster.sql(`select 1 from settings where name = 'celebrity.evaluatedAt'`)).length > 0,
    );
  };
  await evaluated();
  expect((await states(cluster))[4]).toBe('pull');
  for (const [followers, state] of [
    [44, 'pull'],
    [37, 'pull'],
    [46, 'pull'],
    [36, 'push'],
    [44, 'push'],
    [45, 'push'],
    [46, 'pull'],
  ] as const) {
    await setFollowers(cluster, followers);
    await evaluated();
    expect((await states(cluster))[4], `${followers} followers`).toBe(state);
  }
  const done = await runs();
  expect(done.every(({ state }) => state === 'done')).toBe(true);
  const changes = done.reduce((sum, { result }) => sum + result.marked + result.unmarked, 0);
  expect(changes, 'marked, unmarked, marked').toBe(3);
  const changed = await cluster.sql(`select 1 from operations where kind = 'celebrity'`);
  expect(changed).toHaveLength(3);
  await cluster.json('celebrity', 'policy', '--no-automatic');
  expect((await cluster.run('celebrity', 'policy')).stdout).toMatch(/automatic +off/);
});
