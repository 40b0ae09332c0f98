import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { CelebrityResult } from '../../src/engine/celebrities/change.ts';
import { NOTHING_WRONG, start, waitUntil } from '../support/cli.ts';
import { file } from '../support/files.ts';
import {
  EVERY_FOUNDATION,
  FOUNDATIONS,
  httpClient,
  type SpawnedCluster,
  spawnedCluster,
} from '../support/spawnedCluster.ts';

const AUTHOR = 1;
const FOLLOWERS = 2_500;
const READERS = [2, 1_000, 2_400];
/** Killed when none is noted yet, and after each. */
const STEPS = {
  mark: [undefined, 'both', 'readers', 'pull', 'drained', 'compacted'],
  unmark: [undefined, 'both', 'drained', 'filled', 'push'],
};
const STATE = { mark: 'pull', unmark: 'push' };
type Direction = keyof typeof STEPS;

/** Reads a feed all the time: what was in it once is in it ever after, and once. */
function watchFeed(gatewayUrl: string, token: string) {
  const client = httpClient(gatewayUrl, token);
  const seen = new Set<string>();
  const faults: string[] = [];
  let reads = 0;
  let stopped = false;
  const watching = (async () => {
    while (!stopped) {
      const ids = await client.feed();
      const page = new Set(ids);
      if (page.size < ids.length) faults.push(`read ${reads}: a post twice in ${ids}`);
      for (const id of seen) if (!page.has(id)) faults.push(`read ${reads}: ${id} is missing`);
      for (const id of ids) seen.add(id);
      reads += 1;
      await sleep(20);
    }
  })();
  watching.catch((error) => faults.push(String(error)));
  return {
    seen,
    faults,
    reads: () => reads,
    stop: async () => {
      stopped = true;
      await watching.catch(() => {});
    },
  };
}

/** Kills the command with -9 after a saved step, or before the first; then runs it again until it is done. */
async function killAndResume(
  cluster: SpawnedCluster,
  look: (direction: Direction) => Promise<string[] | undefined>,
  direction: Direction,
  step: string | undefined,
  again: Direction = direction,
): Promise<boolean> {
  const command = start(['celebrity', direction, String(AUTHOR), '--json'], cluster.at);
  let ended = false;
  void command.ended.then(() => {
    ended = true;
  });
  await waitUntil(async () => {
    const steps = await look(direction);
    return ended || (steps !== undefined && (step === undefined || steps.includes(step)));
  });
  command.child.kill('SIGKILL');
  const { status } = await command.ended;
  await waitUntil(async () => {
    const { status, stdout } = await cluster.run('celebrity', again, String(AUTHOR), '--json');
    if (status === 0) {
      expect(JSON.parse(stdout) as CelebrityResult).toMatchObject({ userId: AUTHOR });
      return true;
    }
    // The server has not yet noticed that who held the lock is gone.
    expect(stdout).toContain('OPERATION_RUNNING');
    return false;
  });
  return status === 'SIGKILL';
}

const foundations = FOUNDATIONS.filter(({ broker }) => EVERY_FOUNDATION || broker);

describe.each(foundations)('on $name', (foundation) => {
  test.skipIf(foundation.missing)(
    'mark and unmark are killed after each step and resumed: no reader misses a post or sees one twice',
    { timeout: 400_000 },
    async () => {
      const cluster = await spawnedCluster(foundation);
      const edges = Array.from({ length: FOLLOWERS }, (_, i) => `${i + 2} ${AUTHOR}`).join('\n');
      const graph = await file(`${edges}\n`, 'one.edgelist');
      await cluster.json('seed', 'graph', graph, '--celebrity-threshold', '100000');
      const { gatewayUrl } = await cluster.gateway();
      await cluster.worker();
      const author = httpClient(gatewayUrl, await cluster.token(AUTHOR));
      for (let n = 0; n < 20; n += 1) await author.post(`before ${n}`);
      const reader = httpClient(gatewayUrl, await cluster.token(READERS[0]!));
      await waitUntil(async () => (await reader.feed()).length === 20);

      const watches = await Promise.all(
        READERS.map(async (id) => watchFeed(gatewayUrl, await cluster.token(id))),
      );
      let posting = true;
      const posted: string[] = [];
      onTestFinished(() => {
        posting = false;
      });
      const posts = (async () => {
        while (posting) {
          posted.push(await author.post(`meanwhile ${posted.length}`));
          await sleep(2_500);
        }
      })();
      const client = new pg.Client({ connectionString: cluster.url });
      await client.connect();
      onTestFinished(() => client.end());
      const look = async (direction: Direction): Promise<string[] | undefined> => {
        const { rows } = await client.query(
          `select progress from operations where kind = 'celebrity' and state = 'running' order by id desc limit 1`,
        );
        const progress = rows[0]?.progress as { direction?: string; steps?: string[] } | undefined;
        if (!progress) return undefined;
        return progress.direction === direction ? (progress.steps ?? []) : [];
      };
      const state = async () =>
        (await cluster.sql<{ push_state: string }>(`select push_state from users where id = ${AUTHOR}`))[0]!
          .push_state;
      let killed = 0;
      const round = async (direction: Direction, step?: string, again = direction) => {
        if (await killAndResume(cluster, look, direction, step, again)) killed += 1;
        expect(await state(), `${direction} killed after ${step}, then ${again}`).toBe(STATE[again]);
      };
      for (const step of STEPS.mark) {
        await round('mark', step);
        await cluster.json('celebrity', 'unmark', String(AUTHOR));
      }
      await cluster.json('celebrity', 'mark', String(AUTHOR));
      for (const step of STEPS.unmark) {
        await round('unmark', step);
        await cluster.json('celebrity', 'mark', String(AUTHOR));
      }
      // What was begun in one direction is compensated by the other.
      await round('unmark', 'drained', 'mark');
      await cluster.json('celebrity', 'unmark', String(AUTHOR));
      await round('mark', 'pull', 'unmark');
      expect(killed, 'of 13; a last step may be over before it is seen').toBeGreaterThan(9);

      posting = false;
      await posts;
      await waitUntil(async () => (await reader.feed()).length === 20 + posted.length);
      for (const watch of watches) {
        await waitUntil(() => watch.seen.size === 20 + posted.length);
        await watch.stop();
        expect(watch.faults).toEqual([]);
        expect(watch.reads()).toBeGreaterThan(100);
      }
      expect(await cluster.json('feed', 'verify', '--all')).toMatchObject(NOTHING_WRONG);
      const unfinished = await cluster.sql(
        `select 1 from operations where kind = 'celebrity' and state = 'running'`,
      );
      expect(unfinished).toEqual([]);
    },
  );
});
