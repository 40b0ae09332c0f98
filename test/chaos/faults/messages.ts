import { setTimeout as sleep } from 'node:timers/promises';
import { type ConfirmChannel, connect } from 'amqplib';
import { signToken } from '../../../src/engine/gateway/tokens.ts';
import type { Random } from '../../properties/random.ts';
import type { ChaosCluster } from '../cluster.ts';
import { between, type Fault, type FaultContext } from '../fault.ts';
import { malformedBody } from '../malformed.ts';
import { brokerQueues } from '../queues.ts';
import type { Finding } from '../rules.ts';

const MALFORMED = 10_000;
/** Messages of one confirmation. */
const CHUNK = 250;
const AUTHORS = 40;
const READERS = 250;
const POSTS_EACH = 10;
/** The crowd has the ids above those of the clients. */
const CROWD_FROM = 100;

interface Crowd {
  readonly authors: readonly number[];
  readonly readers: readonly number[];
}

export const malformedMessages: Fault = {
  name: 'malformed-messages',
  title: '10,000 malformed messages among 100,000 rows of feeds, while workers are killed and stopped',
  async run(context) {
    const { cluster, note, check } = context;
    const since = await databaseTime(cluster);
    const crowd = await seedCrowd(context);
    note(`${AUTHORS} authors with ${READERS} followers post, and ${MALFORMED} messages are malformed`);
    const sent = new Set<string>();
    let isOver = false;
    const work = Promise.all([postAll(context, crowd), publishMalformed(context, sent)]);
    const disturbed = disturbWorkers(context, () => isOver);
    try {
      await work;
    } finally {
      isOver = true;
      await disturbed;
    }
    note('all are published');
    check(() => lettersOf(cluster, sent, since));
    check(() => rowsOf(cluster, crowd));
  },
};

const databaseTime = async ({ db }: ChaosCluster): Promise<Date> =>
  (await db.query<{ now: Date }>('select clock_timestamp() as now')).rows[0]!.now;

/** Makes users who are no clients: each reader follows each author. */
async function seedCrowd({ cluster, history }: FaultContext): Promise<Crowd> {
  const from = history.users[0]! + CROWD_FROM;
  const authors = Array.from({ length: AUTHORS }, (_, i) => from + i);
  const readers = Array.from({ length: READERS }, (_, i) => from + AUTHORS + i);
  await cluster.seedGraph(readers.flatMap((reader) => authors.map((author) => [reader, author] as const)));
  return { authors, readers };
}

async function postAll({ cluster }: FaultContext, { authors }: Crowd): Promise<void> {
  const tokens = await Promise.all(authors.map((author) => signToken(cluster.db, author)));
  for (let round = 0; round < POSTS_EACH; round += 1)
    for (const [i, token] of tokens.entries()) {
      const { url } = cluster.gateways[(round + i) % cluster.gateways.length]!;
      const response = await fetch(new URL('/post/create', url), {
        method: 'POST',
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
        body: JSON.stringify({ text: `crowd ${round}` }),
      });
      if (!response.ok) throw new Error(`a post of the crowd: ${response.status} ${await response.text()}`);
    }
}

/** Publishes to the queues themselves, and through the exchanges of feedctl. */
async function publishMalformed({ cluster, random }: FaultContext, sent: Set<string>): Promise<void> {
  const queues = await brokerQueues(cluster, /^feed\.(?!dead|cluster|probe)/);
  const connection = await connect(cluster.at.env.FEEDCTL_BROKER_URL!.split(',')[0]!);
  const channel = await connection.createConfirmChannel();
  while (sent.size < MALFORMED) {
    for (let i = 0; i < CHUNK; i += 1) {
      const queue = random.pick(queues);
      const body = malformedBody(random, queue, sent.size);
      const digest = body.toString('hex');
      if (sent.has(digest)) continue;
      sent.add(digest);
      publish(channel, random, queue, body);
    }
    await channel.waitForConfirms();
  }
  await connection.close();
}

function publish(channel: ConfirmChannel, random: Random, queue: string, body: Buffer): void {
  const exchange = /^feed\.rows/.test(queue) ? 'feed.fanout' : /^feed\.live/.test(queue) ? 'feed.live' : '';
  const through = random.chance(0.5) ? exchange : '';
  channel.publish(through, queue, body, { persistent: true });
}

async function disturbWorkers({ cluster, random, note }: FaultContext, isOver: () => boolean): Promise<void> {
  while (!isOver()) {
    const worker = random.pick(cluster.workers);
    const how = random.pick(['kill', 'stop'] as const);
    note(`${how} of ${worker.name}`);
    await worker[how]();
    await between(random, 100, 800);
    await worker.start();
    await sleep(500);
  }
}

/** Each malformed message is a dead letter, and no other message is one. */
async function lettersOf(cluster: ChaosCluster, sent: ReadonlySet<string>, since: Date): Promise<Finding[]> {
  // The listing takes the letters from the broker.
  await cluster.json('dlq', 'list', '--limit', '1');
  const { rows } = await cluster.db.query<{ body: string; queue: string; reason: string }>(
    `select encode(body, 'hex') as body, queue, reason from bus.dead_letters where died_at >= $1`,
    [since],
  );
  const found = new Set(rows.map(({ body }) => body));
  const lacking = [...sent].filter((body) => !found.has(body));
  const findings: Finding[] = rows
    .filter(({ body }) => !sent.has(body))
    .map(({ queue, reason }) => ({ rule: 'letter', user: 0, detail: `of ${queue}: ${reason}` }));
  if (lacking.length > 0) {
    const detail = `${lacking.length} of ${sent.size} malformed messages are no dead letters: ${lacking[0]}`;
    findings.push({ rule: 'letter', user: 0, detail });
  }
  return findings;
}

async function rowsOf(cluster: ChaosCluster, { authors, readers }: Crowd): Promise<Finding[]> {
  const { rows } = await cluster.db.query<{ count: number }>(
    'select count(*) from feed_items where user_id = any($1) and author_id = any($2)',
    [readers, authors],
  );
  const wanted = READERS * AUTHORS * POSTS_EACH;
  const count = Number(rows[0]!.count);
  if (count === wanted) return [];
  return [{ rule: 'lost', user: readers[0]!, detail: `${count} of ${wanted} rows of the crowd` }];
}
