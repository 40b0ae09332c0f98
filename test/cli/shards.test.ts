import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { verify } from '../../src/engine/feed/verify/verify.ts';
import { replay } from '../../src/engine/imports/activity.ts';
import { seedGraph } from '../../src/engine/imports/followGraph.ts';
import type { NodeShards, ShardList, ShardStatus } from '../../src/engine/shards/list.ts';
import type { RebalancePlan, RebalanceResult } from '../../src/engine/shards/rebalance.ts';
import { readActiveMoves } from '../../src/engine/shards/sql.ts';
import { canStartCitusNodes, startCitusNode } from '../support/citus.ts';
import {
  DEMO_GRAPH,
  emptyDatabase,
  feedctl,
  json,
  type Outcome,
  type SpawnOptions,
  sql,
  start,
  temporaryDirectory,
  waitUntil,
} from '../support/cli.ts';
import { citusDatabase, type TestCluster, testCluster } from '../support/cluster.ts';
import { findServer } from '../support/server.ts';
import { holdUpMove } from '../support/shardMoves.ts';

const server = await findServer('citus');
const there = server !== undefined && canStartCitusNodes();

const errorOf = ({ stdout }: Outcome) =>
  (JSON.parse(stdout) as { error: { code: string; message: string } }).error;

test('plain PostgreSQL has no shards: every command says so', async () => {
  const env = { FEEDCTL_DATABASE_URL: await emptyDatabase('cli_shards') };
  await json(['migrate'], { env });
  for (const command of [
    ['shards', 'list'],
    ['shards', 'plan'],
    ['shards', 'rebalance', '--yes'],
    ['shards', 'rebalance', '--stop', '--yes'],
    ['shards', 'move', '102008', 'db2.example:5432', '--yes'],
    ['shards', 'status'],
    ['node', 'list'],
    ['node', 'add', 'db2.example:5432', '--yes'],
    ['node', 'drain', 'db2.example:5432', '--remove', '--yes'],
  ]) {
    const name = command.join(' ');
    const asJson = await feedctl([...command, '--json'], { env });
    expect(asJson, name).toMatchObject({ status: 1, stderr: '' });
    expect(errorOf(asJson), name).toMatchObject({ code: 'NOT_DISTRIBUTED' });
  }
  const wrong = await feedctl(['shards', 'move', 'abc', 'db2.example:5432', '--json'], { env });
  expect(wrong.status).toBe(2);
  expect(errorOf(wrong)).toMatchObject({ code: 'USAGE', message: expect.stringContaining('abc') });
  const text = await feedctl(['shards', 'list'], { env });
  expect(text).toMatchObject({ status: 1, stdout: '' });
  expect(text.stderr).toMatch(/plain PostgreSQL.*\(NOT_DISTRIBUTED\)\n {2}Try: /);
});

interface Nodes {
  readonly nodes: readonly NodeShards[];
}
const counts = ({ nodes }: Nodes) =>
  nodes
    .filter((node) => !node.coordinator)
    .map((node) => node.shards)
    .sort();

/** Loads a graph on Citus with a worker, and creates a database of the same name on one more server. */
async function fixture(settings: Record<string, string> = {}) {
  const cluster = await testCluster(undefined, citusDatabase(server!));
  const database = new URL(cluster.url).pathname.slice(1);
  const third = await startCitusNode(await temporaryDirectory(), database, settings);
  onTestFinished(() => third.stop());
  return { cluster, third: third.name, at: { env: { FEEDCTL_DATABASE_URL: cluster.url } } };
}

/** Runs `work` while moves of these shards wait: it has its time on any machine. */
const heldUp = <T>({ db }: TestCluster, shards: readonly number[], work: () => Promise<T>): Promise<T> =>
  db.transaction(async (session) => {
    for (const shard of shards) await holdUpMove(session, shard);
    return work();
  });

/** Replays files of 1,000 posts each, one after the other, until it is stopped. */
async function replays(
  cluster: TestCluster,
  since: number,
): Promise<{ posted(): number; stop(): Promise<void> }> {
  const directory = await temporaryDirectory();
  const { rows } = await cluster.db.query<{ id: number }>(
    'select followee_id as id from followers group by 1 order by count(*) desc limit 200',
  );
  let posts = 0;
  let stopping = false;
  const running = (async () => {
    for (let file = 0; !stopping; file += 1) {
      const path = join(directory, `activity-${file}.txt`);
      const lines = Array.from({ length: 1_000 }, (_, i) => {
        const actor = rows[(file * 7 + i) % rows.length]!.id;
        return `${actor} ${actor} ${since + file * 1_000 + i} MT\n`;
      });
      await writeFile(path, lines.join(''));
      posts += (await replay(cluster, path)).posts;
    }
  })();
  return {
    posted: () => posts,
    stop: async () => {
      stopping = true;
      await running;
    },
  };
}

describe.skipIf(!there)('on Citus', () => {
  /** Waits for this text on stderr, or for the end of the process. */
  const told = async (args: string[], pattern: RegExp, at: SpawnOptions) => {
    const process = start(args, at);
    let ended = false;
    void process.ended.then(() => {
      ended = true;
    });
    await waitUntil(() => ended || pattern.test(process.stderr()));
    return process;
  };
  /** The lock of a killed process is released a moment later. */
  const again = async (args: string[], at: SpawnOptions): Promise<Outcome> => {
    for (;;) {
      const outcome = await feedctl([...args, '--json'], at);
      if (outcome.status === 0 || errorOf(outcome).code !== 'OPERATION_RUNNING') return outcome;
    }
  };

  test('a third node is added and filled under a running replay, and drained and removed again', {
    timeout: 300_000,
  }, async () => {
    const { cluster, third, at } = await fixture();
    await seedGraph(cluster, [DEMO_GRAPH], { celebrityThreshold: 1_000 });
    await cluster.startWorker();
    const truth = async () => {
      await cluster.settled();
      expect(await verify(cluster.db, undefined)).toMatchObject({ mismatched: 0, asymmetric: 0 });
    };
    const list = () => json<ShardList>(['shards', 'list'], at);
    expect(counts(await list())).toEqual([4, 4]);
    expect(await json(['node', 'add', third, '--dry-run'], at)).toMatchObject({
      was: 'unknown',
      dryRun: true,
    });
    expect(await json(['node', 'add', third, '--yes'], at)).toMatchObject({ node: third, was: 'unknown' });
    expect(counts(await json<Nodes>(['node', 'list'], at))).toEqual([0, 4, 4]);

    const plan = await json<RebalancePlan>(['shards', 'plan'], at);
    expect(plan).toMatchObject({ missing: [], running: null });
    expect(plan.moves.map((move) => move.to)).toEqual([third, third]);
    expect(plan.bytes).toBeGreaterThan(100_000);
    const dry = await json<RebalanceResult>(['shards', 'rebalance', '--dry-run'], at);
    expect(dry).toMatchObject({ dryRun: true, jobId: null, moves: plan.moves });
    const unasked = await feedctl(['shards', 'rebalance', '--json'], at);
    expect(unasked.status).toBe(2);
    expect(errorOf(unasked).code).toBe('CONFIRMATION_REQUIRED');
    expect(counts(await list())).toEqual([0, 4, 4]);

    const activity = await replays(cluster, 1_400_000_000);
    await waitUntil(() => activity.posted() > 0);
    const before = activity.posted();
    // Ctrl-C, then kill -9: Citus continues, and the same command follows the job.
    const moved = plan.moves.map((move) => move.shard);
    // A copy of `celebrities` at the new node would wait too.
    await sql(cluster.url, `select replicate_reference_tables('block_writes')`);
    const job = await heldUp(cluster, moved, async () => {
      const interrupted = await told(['shards', 'rebalance', '--yes'], /job \d+: shard \d+ .*: moving\n/, at);
      interrupted.child.kill('SIGINT');
      const left = await interrupted.ended;
      expect(left.status).toBe(3);
      expect(left.stderr).toMatch(/continues.*\(INTERRUPTED\)/);
      const running = await json<ShardStatus>(['shards', 'status'], at);
      expect(running.job!.moves).toHaveLength(2);
      expect(running.job!.bytes).toBeGreaterThan(0);
      const killed = await told(['shards', 'rebalance'], /: moving\n/, at);
      killed.child.kill('SIGKILL');
      await killed.ended;
      return running.job!;
    });
    const [{ id }] = (
      await json<{ operations: [{ id: number }] }>(['operation', 'list', '--kind', 'rebalance'], at)
    ).operations;
    const resumed = await again(['operation', 'resume', `${id}`], at);
    expect(resumed, resumed.stdout).toMatchObject({ status: 0 });
    const status = await json<ShardStatus>(['shards', 'status'], at);
    expect(status.job).toMatchObject({ jobId: job.jobId, state: 'finished' });
    expect(status.job!.moves.map((move) => move.state)).toEqual(['done', 'done']);
    expect(status.job!.movedBytes).toBe(status.job!.bytes);
    expect(status.troubles.filter((trouble) => trouble.kind !== 'leftover')).toEqual([]);
    const even = await list();
    expect(counts(even)).toEqual([2, 3, 3]);
    expect(even.shards).toHaveLength(8);
    expect(await json(['shards', 'plan'], at)).toMatchObject({ moves: [] });
    await waitUntil(() => activity.posted() > before);
    await activity.stop();
    await truth();

    const more = await replays(cluster, 1_500_000_000);
    const atThird = even.shards.filter(({ node }) => node === third).map(({ shard }) => shard);
    await heldUp(cluster, atThird, async () => {
      const follower = await told(['node', 'drain', third, '--yes'], /: moving\n/, at);
      const busy = await feedctl(['shards', 'rebalance', '--yes', '--json'], at);
      expect(busy.status).toBe(1);
      expect(errorOf(busy).code).toBe('SHARDS_BUSY');
      expect(await json(['shards', 'rebalance', '--stop', '--yes'], at)).toMatchObject({ moves: 2 });
      const stopped = await follower.ended;
      expect(stopped.status).toBe(3);
      expect(stopped.stderr).toContain('REBALANCE_STOPPED');
    });
    expect(await json(['shards', 'rebalance', '--stop', '--yes'], at)).toMatchObject({ jobId: null });
    const drained = await json<RebalanceResult>(['node', 'drain', third, '--remove', '--yes'], at);
    expect(drained).toMatchObject({ removed: true });
    expect(counts(await json<Nodes>(['node', 'list'], at))).toEqual([4, 4]);
    await more.stop();
    await truth();
  });

  test('one shard is moved, or its move undone; what moves left behind is named', {
    timeout: 180_000,
  }, async () => {
    const { cluster, third, at } = await fixture();
    await seedGraph(cluster, [DEMO_GRAPH], { celebrityThreshold: 1_000 });
    const [first] = (await json<ShardList>(['shards', 'list'], at)).shards;
    const move = ['shards', 'move', String(first!.shard), third];
    expect(errorOf(await feedctl([...move, '--yes', '--json'], at)).code).toBe('NODE_NOT_FOUND');
    await json(['node', 'add', third, '--yes'], at);
    expect(errorOf(await feedctl(['shards', 'move', '1', third, '--yes', '--json'], at)).code).toBe(
      'SHARD_NOT_FOUND',
    );
    expect(errorOf(await feedctl([...move, '--json'], at)).code).toBe('CONFIRMATION_REQUIRED');
    expect(await json([...move, '--dry-run'], at)).toMatchObject({
      moved: false,
      from: first!.node,
      to: third,
    });

    const outcome = await heldUp(cluster, [first!.shard], async () => {
      const undone = start([...move, '--yes'], at);
      await waitUntil(
        async () => (await json<ShardStatus>(['shards', 'status'], at)).active[0]?.shard === first!.shard,
      );
      // Moves of another database on these servers do not matter.
      const other = await citusDatabase(server!);
      expect(await readActiveMoves(other.db)).toEqual([]);
      undone.child.kill('SIGINT');
      return undone.ended;
    });
    expect(outcome.status).toBe(3);
    expect(outcome.stderr).toContain(`it is at ${first!.node}`);
    const at1 = async () => (await json<ShardList>(['shards', 'list'], at)).shards[0]!.node;
    expect(await at1()).toBe(first!.node);
    // The coordinator may still show the session whose move was undone.
    await waitUntil(async () => (await json<ShardStatus>(['shards', 'status'], at)).active.length === 0);
    expect(await json([...move, '--yes'], at)).toMatchObject({ moved: true });
    expect(await at1()).toBe(third);
    expect(await json([...move, '--yes'], at)).toMatchObject({ moved: false });
    expect(await verify(cluster.db, undefined)).toMatchObject({ mismatched: 0, asymmetric: 0 });

    const thirdUrl = new URL(cluster.url);
    thirdUrl.port = third.split(':')[1]!;
    await sql(
      thirdUrl.href,
      `set citus.enable_manual_changes_to_shards = on;
       create table users_999999 (id bigint); create table mine_1 (id bigint)`,
    );
    await sql(
      cluster.url,
      `insert into pg_dist_cleanup values (900001, 900001, 1, 'public.posts_999998', (
         select groupid from pg_dist_node where nodeport = ${thirdUrl.port}), 0)`,
    );
    const { troubles } = await json<ShardStatus>(['shards', 'status'], at);
    const orphans = troubles.filter((trouble) => trouble.kind === 'orphan');
    expect(orphans.map((trouble) => trouble.detail)).toEqual([
      `at ${third}, of no table in the catalog: shard users_999999`,
    ]);
    const doctor = await feedctl(['doctor'], at);
    expect(doctor.stdout).toContain('citus orphan: ');
    expect(doctor.stdout).toMatch(/feed partitions: \d/);
    expect((await feedctl(['shards', 'status'], at)).stdout).toMatch(/ORPHAN .*users_999999\n +Try: /);
  });

  test('a node that cannot take part is refused with every reason, and nothing is changed', {
    timeout: 120_000,
  }, async () => {
    const { cluster, third, at } = await fixture({ wal_level: 'replica', max_worker_processes: '2' });
    expect(errorOf(await feedctl(['node', 'add', '127.0.0.1:1', '--yes', '--json'], at)).code).toBe(
      'NODE_UNREACHABLE',
    );
    expect(errorOf(await feedctl(['node', 'add', 'nowhere', '--yes', '--json'], at)).code).toBe('USAGE');
    await json(['node', 'add', third, '--yes'], at);
    await sql(cluster.url, 'alter table idempotency_keys drop constraint idempotency_keys_pkey');
    const places = async () =>
      (await json<Nodes>(['node', 'list'], at)).nodes.map(({ node, takesShards, shards }) => ({
        node,
        takesShards,
        shards,
      }));
    const before = await places();
    const [first] = (await json<ShardList>(['shards', 'list'], at)).shards;
    for (const command of [
      ['shards', 'rebalance'],
      ['node', 'drain', first!.node],
      ['shards', 'move', String(first!.shard), third],
    ]) {
      const refused = await feedctl([...command, '--yes', '--json'], at);
      expect(refused.status, command.join(' ')).toBe(1);
      const { code, message } = errorOf(refused);
      expect(code, command.join(' ')).toBe('SHARDS_UNMOVABLE');
      expect(message).toMatch(/wal_level is not logical .*no background worker is left.*idempotency_keys/);
    }
    const plan = await json<RebalancePlan>(['shards', 'plan'], at);
    expect(plan.missing).toHaveLength(3);
    expect((await feedctl(['shards', 'plan'], at)).stdout).toMatch(/MISSING {2}wal_level .*\n +Try: /);
    expect(await places()).toEqual(before);
  });
});
