import { test, vi } from 'vitest';
import { engine } from './engine.ts';
import { HistoryRun } from './history.ts';
import { openLane } from './lane.ts';

vi.mock('node:timers/promises', async (original) => {
  const real = await original<typeof import('node:timers/promises')>();
  const { sleepOf } = await import('./simulatedTimers.ts');
  return { ...real, setTimeout: sleepOf(real.setTimeout) };
});

/** Scripted orders of steps that once failed. User 0 follows user 1, who has written a post. */
async function scripted(
  script: (run: HistoryRun) => Promise<void>,
  start: { follows?: boolean } = {},
): Promise<void> {
  const lane = await openLane();
  const follows = start.follows === false ? [] : [{ reader: 0, next: 0 }];
  // Seed 2 starts one planner and one writer, with a list of online users.
  const run = new HistoryRun(lane, { users: 2, seed: 2, follows, posts: [1], operations: [] }, engine);
  try {
    await run.start();
    run.bus.losesAcks = false;
    await script(run);
    await run.finish();
  } finally {
    await run.end();
  }
}

const PAIR = { reader: 0, next: 0 };

test('a trim between the floor and the page of a read takes no post out of it', () =>
  scripted(async (run) => {
    await run.begin({ do: 'trim', user: 0, keep: 0 });
    await run.begin({ do: 'read', user: 0, limit: 1, cached: false });
    await run.step('read');
    await run.without('read');
  }));

test('a socket gets a post that was planned ahead of its follow', () =>
  scripted(
    async (run) => {
      await run.begin({ do: 'connect', user: 0 });
      await run.without();
      await run.begin({ do: 'follow', ...PAIR });
      await run.until('follow', /publish/);
      await run.begin({ do: 'post', author: 1 });
      await run.without('follow');
    },
    { follows: false },
  ));

test('a rebuild that commits after the cleanup of an unfollow leaves no rows of strangers', () =>
  scripted(async (run) => {
    await run.begin({ do: 'trim', user: 0, keep: 0 });
    await run.without();
    await run.begin({ do: 'rebuild', user: 0 });
    await run.until('rebuild', /pg_notify/);
    await run.begin({ do: 'unfollow', ...PAIR });
    await run.only('unfollow', 'planner', 'cleaner');
  }));

test('a rebuild that commits after the cleanup of a deletion leaves no row of the post', () =>
  scripted(async (run) => {
    await run.begin({ do: 'trim', user: 0, keep: 0 });
    await run.without();
    await run.begin({ do: 'rebuild', user: 0 });
    await run.until('rebuild', /pg_notify/);
    await run.begin({ do: 'delete', post: 0 });
    await run.only('delete', 'planner', 'cleaner');
  }));

test('an unmark that commits after the cleanup of a deletion leaves no row of the post', () =>
  scripted(async (run) => {
    await run.begin({ do: 'mark', author: 1 });
    await run.without();
    await run.begin({ do: 'unmark', author: 1 });
    await run.until('unmark', /pg_notify/);
    await run.begin({ do: 'delete', post: 0 });
    await run.only('delete', 'planner', 'cleaner');
  }));

test('a post deleted while its reader is between unfollow and follow leaves no row', () =>
  scripted(async (run) => {
    await run.begin({ do: 'unfollow', ...PAIR });
    await run.only('unfollow');
    await run.until('planner', /delete from feed_items/);
    await run.begin({ do: 'follow', ...PAIR });
    await run.until('follow', /publish/);
    await run.only('planner', 'cleaner');
    await run.begin({ do: 'delete', post: 0 });
    await run.only('delete');
    await run.only('planner', 'cleaner');
  }));

/** Begins to retire the rows of a post, up to a statement. */
async function retireUntil(run: HistoryRun, statement: RegExp): Promise<void> {
  await run.begin({ do: 'post', author: 1 });
  await run.without();
  await run.begin({ do: 'divide', post: 1 });
  await run.without();
  await run.begin({ do: 'retire' });
  await run.until('retire', statement);
}

test('a rebuild between the floors and the rows of a retirement loses no post', () =>
  scripted(async (run) => {
    await retireUntil(run, /lock table/);
    await run.begin({ do: 'rebuild', user: 0 });
    await run.only('rebuild');
  }));

test('partitions that a retirement removes while another process reads their names are no failure', () =>
  scripted(async (run) => {
    await retireUntil(run, /drop table/);
    await run.begin({ do: 'divide', post: 0 });
    await run.step('divide');
    await run.without();
  }));
