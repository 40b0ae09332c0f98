import { setTimeout as sleep } from 'node:timers/promises';
import { verify } from '../../src/engine/feed/verify/verify.ts';
import { signToken } from '../../src/engine/gateway/tokens.ts';
import { Random } from '../properties/random.ts';
import { check } from './checker.ts';
import { Client } from './clients.ts';
import type { ChaosCluster } from './cluster.ts';
import type { Fault, FaultContext } from './fault.ts';
import { type FinalState, type History, newHistory, pairOf } from './history.ts';
import { isInDoubt, settledAt } from './knowledge.ts';
import { Lag } from './lag.ts';
import { recoveryOf } from './recovery.ts';
import { type RoundResult, sliceOf, stallOf } from './result.ts';
import type { Finding } from './rules.ts';

const USERS = 16;
const FOLLOW_CHANCE = 0.35;
const CELEBRITY_CHANCE = 0.5;
const WARM_UP_MS = 1_500;
const AFTER_MS = 1_000;
/** Clients work again when all is quiet: what the fault has broken for good shows then. */
const AGAIN_MS = 2_000;
/** Fan-out that has not ended by now is lost. */
const QUIET_MS = 600_000;
const WHOLE_FEED = 1_000;
/** Reading all feeds keeps the machine from fan-out. */
const POLL_MS = 1_000;

export interface RoundOptions {
  readonly seed: number;
  readonly round: number;
  /** Mean pause between two requests of one user, in milliseconds. */
  readonly paceMs: number;
  /** Milliseconds after which a missing post is lost. The default suits a busy machine. */
  readonly quietMs?: number;
  /** Called with each step of the round. */
  readonly onNote?: (text: string) => void;
}

/** Runs clients through a fault, waits until all is quiet, and checks what they did and saw. */
export async function runRound(
  cluster: ChaosCluster,
  fault: Fault,
  { seed, round, paceMs, quietMs: maxQuietMs = QUIET_MS, onNote }: RoundOptions,
): Promise<RoundResult> {
  const random = new Random(seed);
  const began = performance.now();
  const now = () => performance.now() - began;
  const history = await seedUsers(cluster, round, random);
  const lag = new Lag();
  const note = (text: string) => {
    history.notes.push({ at: now(), text });
    onNote?.(text);
  };
  const urls = cluster.gateways.map(({ url }) => url);
  let balanced = urls;
  const clients = await Promise.all(
    history.users.map(async (user) => {
      const token = await signToken(cluster.db, user);
      const pace = paceMs * (fault.pace ?? 1);
      return new Client(user, token, {
        ...{ gateways: urls, balanced: () => balanced, history, now, seed, paceMs: pace },
        flightMs: () => lag.flightMs,
      });
    }),
  );
  try {
    await Promise.all(clients.map((client) => client.connect()));
    for (const client of clients) client.start();
    await sleep(WARM_UP_MS);

    const faultAt = now();
    note(`fault: ${fault.title}`);
    const checks: FaultChecks = [];
    const addCheck = (one: FaultChecks[number]) => void checks.push(one);
    const balance: FaultContext['balance'] = (gateways) => {
      balanced = gateways.map(({ url }) => url);
    };
    await fault.run({ cluster, random, history, now, note, balance, check: addCheck });
    const healedAt = now();
    note('the fault is over');
    const recoveryMs = await recoveryOf(cluster, history);
    note('posts arrive again through every gateway');
    await sleep(AFTER_MS);
    await Promise.all(clients.map((client) => client.pause()));
    note('the clients have stopped');
    const stallMs = stallOf(history, faultAt);
    const checkNow = () => checkWhenQuiet({ cluster, history, clients, checks, maxQuietMs });
    const first = await checkNow();
    const { quietMs } = first;
    let { findings } = first;
    if (findings.length === 0) {
      await untilSettled(history, now);
      history.checkpoints.push({ at: now(), state: first.state });
      note('all is quiet, and the clients work again');
      for (const client of clients) client.start();
      await sleep(AGAIN_MS);
      await Promise.all(clients.map((client) => client.pause()));
      ({ findings } = await checkNow());
    }
    const memory = Object.fromEntries(cluster.roles.map((role) => [role.name, role.memory]));
    return {
      fault: fault.name,
      round,
      seed,
      operations: tally(history),
      frames: history.received.filter(({ kind }) => kind === 'post').length,
      stallMs,
      faultMs: healedAt - faultAt,
      recoveryMs,
      quietMs,
      findings: findings.map((finding) => ({ ...finding, history: sliceOf(history, finding) })),
      unexpectedEnds: takeUnexpectedEnds(cluster),
      memory,
    };
  } finally {
    lag.stop();
    await Promise.all(clients.map((client) => client.close()));
  }
}

/** Returns the ends of roles that no fault has brought about, each once. */
export const takeUnexpectedEnds = (cluster: ChaosCluster): string[] =>
  cluster.roles.flatMap(({ unexpected }) => unexpected.splice(0));

/** Makes the users of a round, who follow each other at random. One may be a celebrity. */
async function seedUsers(cluster: ChaosCluster, round: number, random: Random): Promise<History> {
  const base = 1_000 * (round + 1);
  const users = Array.from({ length: USERS }, (_, i) => base + i);
  const followsBefore = users.flatMap((follower) =>
    users
      .filter((followee) => followee !== follower && random.chance(FOLLOW_CHANCE))
      .map((followee) => [follower, followee] as const),
  );
  // A user without follows is named by a self-loop, which is no follow.
  await cluster.seedGraph([...users.map((user) => [user, user] as const), ...followsBefore]);
  if (random.chance(CELEBRITY_CHANCE)) await cluster.json('celebrity', 'mark', String(random.pick(users)));
  return newHistory(users, followsBefore);
}

const tally = ({ operations }: History): RoundResult['operations'] => {
  const changes = operations.filter((one) => one.do !== 'read');
  return {
    attempted: changes.length,
    acknowledged: changes.filter(({ outcome }) => outcome === 'ok').length,
    unknown: changes.filter(({ outcome }) => outcome === 'unknown').length,
    reads: operations.length - changes.length,
  };
};

type FaultChecks = (() => Promise<Finding[]>)[];

/** Waits until no request without an answer can happen any more. */
async function untilSettled(history: History, now: () => number): Promise<void> {
  const settled = history.operations.filter(isInDoubt).map(({ end }) => settledAt(history, end));
  await sleep(Math.max(0, ...settled.map((at) => at - now())));
}

interface Quiet {
  readonly cluster: ChaosCluster;
  readonly history: History;
  readonly clients: readonly Client[];
  readonly checks: FaultChecks;
  readonly maxQuietMs: number;
}

/** Reads until nothing is missing any more, or until the deadline. */
async function checkWhenQuiet(
  quiet: Quiet,
): Promise<{ findings: Finding[]; state: FinalState; quietMs: number }> {
  const since = performance.now();
  for (;;) {
    const found = await findingsNow(quiet).catch((cause: Error) => cause);
    const quietMs = performance.now() - since;
    const isOver = quietMs > quiet.maxQuietMs;
    if (found instanceof Error) {
      if (isOver) throw new Error('feeds cannot be read after the clients stopped', { cause: found });
    } else if (found.findings.length === 0 || isOver) {
      return { ...found, quietMs };
    }
    await sleep(POLL_MS);
  }
}

async function findingsNow(quiet: Quiet): Promise<{ findings: Finding[]; state: FinalState }> {
  const { cluster, history, clients, checks } = quiet;
  const state = await finalState(cluster, history, clients);
  const findings = check(history, state);
  for (const one of checks) findings.push(...(await one()));
  findings.push(...(await verified(cluster, history.users)));
  return { findings, state };
}

/** Compares the rows of feeds with the truth. */
export async function verified(cluster: ChaosCluster, ids: readonly number[]): Promise<Finding[]> {
  const { mismatched, users, ...faults } = await verify(cluster.db, ids);
  if (mismatched + faults.orphans + faults.asymmetric === 0) return [];
  const detail = JSON.stringify({ mismatched, users: users.slice(0, 10), ...faults });
  return [{ rule: 'verify', user: users[0] ?? 0, detail }];
}

async function finalState(
  cluster: ChaosCluster,
  { users }: History,
  clients: readonly Client[],
): Promise<FinalState> {
  const { rows } = await cluster.db.query<{ follower: number; followee: number }>(
    'select follower_id as follower, followee_id as followee from follows where follower_id = any($1)',
    [users],
  );
  const feeds: FinalState['feeds'][number][] = [];
  for (const { user, feedAt } of clients)
    for (const { role, url } of cluster.gateways)
      feeds.push({ user, gateway: role.name, limit: WHOLE_FEED, items: await feedAt(url, WHOLE_FEED) });
  return { follows: new Set(rows.map((row) => pairOf(row.follower, row.followee))), feeds };
}
