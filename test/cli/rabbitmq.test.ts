import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { freshVhost } from '../support/broker.ts';
import {
  DEMO_ACTIVITY,
  DEMO_GRAPH,
  emptyDatabase,
  feedctl,
  json,
  sql,
  start,
  waitUntil,
} from '../support/cli.ts';
import { file } from '../support/files.ts';
import { findServer } from '../support/server.ts';

const server = await findServer('rabbitmq');
/** Twenty and more by hand: FEEDCTL_ROUNDS=20. */
const ROUNDS = Number(process.env.FEEDCTL_ROUNDS ?? 3);
const NOTHING_WRONG = {
  mismatched: 0,
  missing: 0,
  strangers: 0,
  orphans: 0,
  duplicates: 0,
  asymmetric: 0,
};

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

async function expectWhole(at: At): Promise<void> {
  expect(await json(['feed', 'verify', '--all'], at)).toMatchObject(NOTHING_WRONG);
  // `status` exits 1 here, as there is no gateway.
  const { stdout } = await feedctl(['status', '--json'], at);
  const { queues } = JSON.parse(stdout) as { queues: { queue: string; deadLetters: number }[] };
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
});
