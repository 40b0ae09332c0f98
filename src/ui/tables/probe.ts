import type { ProbeLeg, ProbeResult } from '../../engine/monitoring/probe.ts';
import type { Verdict } from './verdict.ts';

/** What the post did not do, by the first leg that it did not reach. */
const STUCK: Record<ProbeLeg, string> = {
  created: 'the gateway did not take the post',
  dispatched: 'the post reached no queue',
  planned: 'no worker planned the post',
  written: 'no worker wrote the post to the feed',
  pushed: 'the gateway did not push the post',
  seen: 'the post did not reach the socket',
};

/** Says in one sentence whether a post passes the live path. */
export function probeVerdict(result: Omit<ProbeResult, 'legs'>): [Verdict, string] {
  const { ok, gatewayUrl, stuckAt, reason, totalMs, maxMs } = result;
  if (ok) return ['good', `The live path works: a post took ${totalMs} ms to a socket of ${gatewayUrl}.`];
  const why = reason ? ` (${reason})` : '';
  if (stuckAt) return ['bad', `The live path is STUCK at ${gatewayUrl}: ${STUCK[stuckAt]}${why}.`];
  return [
    'bad',
    `The live path is slow at ${gatewayUrl}: a post took ${totalMs} ms, the limit is ${maxMs} ms.`,
  ];
}
