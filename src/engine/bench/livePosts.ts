import { setTimeout as sleep } from 'node:timers/promises';
import { fanOutDrained } from '../bus/drained.ts';
import { dispatch, dispatchWithin } from '../fanout/dispatcher.ts';
import { forgetRun, type LatencyMs, runLatency } from '../store/runs.ts';
import type { BenchCluster } from './benchCluster.ts';
import { thousandths } from './limit.ts';
import { makePosts } from './posts.ts';
import { pushedAuthors } from './sql.ts';

/** Authors of the live posts, in turns: some have few followers, some up to this many. */
const LIVE_AUTHORS = 200;
const LIVE_FOLLOWERS = 100;

/** Latency from the commit of a post to the commit of its rows. */
export type Live = LatencyMs & { readonly posts: number; readonly seconds: number };

/** Makes posts at a rate while `work` runs, and returns the latency of their rows. */
export async function livePosts(
  bench: BenchCluster,
  rate: number,
  work: () => Promise<unknown>,
): Promise<Live> {
  const { db, ids } = bench.cluster;
  const authors = await pushedAuthors(db, LIVE_FOLLOWERS, LIVE_AUTHORS);
  const importId = await ids.next();
  const publish = await dispatchWithin(bench.cluster, { importId });
  const startedAt = performance.now();
  const pending: Promise<void>[] = [];
  const make = async (author: number) => {
    const events = await makePosts(bench, [author], publish);
    if (!publish) await dispatch(bench.cluster, events, { importId, committedAt: Date.now() });
  };
  let ended = false;
  const working = work().finally(() => {
    ended = true;
  });
  working.catch(() => {}); // Thrown by the await below.
  let seconds = 0;
  while (!ended) {
    pending.push(make(authors[pending.length % authors.length]!));
    await sleep(Math.max(0, startedAt + (pending.length * 1_000) / rate - performance.now()));
    seconds = (performance.now() - startedAt) / 1_000;
  }
  await working;
  await Promise.all(pending);
  await fanOutDrained(bench.cluster);
  const latency = await runLatency(db, importId);
  await forgetRun(db, importId);
  return { ...latency, posts: pending.length, seconds: thousandths(seconds) };
}
