import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { verify } from '../../src/engine/feed/verify/verify.ts';
import { signToken } from '../../src/engine/gateway/tokens.ts';
import { Random } from '../properties/random.ts';
import { temporaryDirectory } from '../support/cli.ts';
import { check, type Finding } from './checker.ts';
import { Client } from './clients.ts';
import type { ChaosCluster } from './cluster.ts';
import type { Fault } from './fault.ts';
import { type FinalState, type History, pairOf } from './history.ts';
import { recoveryOf } from './recovery.ts';
import { type RoundResult, sliceOf, stallOf } from './result.ts';

const USERS = 16;
const FOLLOW_CHANCE = 0.35;
const CELEBRITY_CHANCE = 0.5;
const WARM_UP_MS = 1_500;
const AFTER_MS = 1_000;
/** A frame passes from a gateway to its client within this time, if this process is not busy. */
const FLIGHT_MS = 50;
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
  const delay = monitorEventLoopDelay();
  delay.enable();
  const note = (text: string) => {
    history.notes.push({ at: now(), text });
    onNote?.(text);
  };
  const urls = cluster.gateways.map(({ url }) => url);
  const clients = await Promise.all(
    history.users.map(async (user) => {
      const token = await signToken(cluster.db, user);
      return new Client(user, token, { gateways: urls, history, now, seed, paceMs });
    }),
  );
  try {
    await Promise.all(clients.map((client) => client.connect()));
    for (const client of clients) client.start();
    await sleep(WARM_UP_MS);

    const faultAt = now();
    note(`fault: ${fault.title}`);
    await fault.run({ cluster, random, history, now, note });
    const healedAt = now();
    note('the fault is over');
    const recoveryMs = await recoveryOf(cluster, history);
    note('posts arrive again through every gateway');
    await sleep(AFTER_MS);
    await Promise.all(clients.map((client) => client.pause()));
    note('the clients have stopped');
    // The links pass frames on in this process, which notes them.
    const flightMs = () => FLIGHT_MS + (3 * delay.max) / 1e6;
    const { findings, quietMs } = await checkWhenQuiet(cluster, history, clients, {
      flightMs,
      maxQuietMs,
    });
    const memory = Object.fromEntries(cluster.roles.map((role) => [role.name, role.memory]));
    return {
      fault: fault.name,
      round,
      seed,
      operations: tally(history),
      frames: history.received.filter(({ kind }) => kind === 'post').length,
      stallMs: stallOf(history, faultAt),
      faultMs: healedAt - faultAt,
      recoveryMs,
      quietMs,
      findings: findings.map((finding) => ({ ...finding, history: sliceOf(history, finding) })),
      unexpectedEnds: takeUnexpectedEnds(cluster),
      memory,
    };
  } finally {
    delay.disable();
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
  const file = join(await temporaryDirectory(), 'round.edgelist');
  const lines = followsBefore.map(([follower, followee]) => `${follower} ${followee}\n`);
  // A user without follows is named by a self-loop, which is no follow.
  await writeFile(file, [...users.map((user) => `${user} ${user}\n`), ...lines].join(''));
  await cluster.json('seed', 'graph', file);
  if (random.chance(CELEBRITY_CHANCE)) await cluster.json('celebrity', 'mark', String(random.pick(users)));
  return { users, followsBefore, operations: [], received: [], notes: [], mayLose: [], flightMs: 0 };
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

/** Reads until nothing is missing any more, or until the deadline. */
async function checkWhenQuiet(
  cluster: ChaosCluster,
  history: History,
  clients: readonly Client[],
  { flightMs, maxQuietMs }: { flightMs: () => number; maxQuietMs: number },
): Promise<{ findings: Finding[]; quietMs: number }> {
  const since = performance.now();
  for (;;) {
    const findings = await findingsNow(cluster, history, clients, flightMs).catch((cause: Error) => cause);
    const quietMs = performance.now() - since;
    const isOver = quietMs > maxQuietMs;
    if (findings instanceof Error) {
      if (isOver) throw new Error('feeds cannot be read after the clients stopped', { cause: findings });
    } else if (findings.length === 0 || isOver) {
      return { findings, quietMs };
    }
    await sleep(POLL_MS);
  }
}

async function findingsNow(
  cluster: ChaosCluster,
  history: History,
  clients: readonly Client[],
  flightMs: () => number,
): Promise<Finding[]> {
  const final = await finalState(cluster, history, clients);
  const findings = check({ ...history, flightMs: history.flightMs + flightMs() }, final);
  const { mismatched, users, ...faults } = await verify(cluster.db, history.users);
  if (mismatched + faults.orphans + faults.asymmetric > 0)
    findings.push({
      rule: 'verify',
      user: users[0] ?? 0,
      detail: JSON.stringify({ mismatched, users, ...faults }),
    });
  return findings;
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
