import { markCelebrity, unmarkCelebrity } from '../../celebrities/change.ts';
import type { Cluster } from '../../cluster/cluster.ts';
import { pauseFanout, resumeFanout } from '../../fanout/laneControl.ts';
import { rebuild } from '../../feed/rebuild/rebuild.ts';
import { drainWorker, planWorkerDrain } from '../../fleet/drain.ts';
import { drainGateway } from '../../gateway/operator/drain.ts';
import { counted } from '../../model/counted.ts';
import { FeedctlError } from '../../model/errors.ts';
import type { LaneName } from '../../model/lanes.ts';

const DRAIN_TIMEOUT_MS = 60_000;
const PAUSE_TIMEOUT_MS = 30_000;

/** A change that `top --admin` can make. Each does what the command of that name does. */
export type TopAction =
  | { readonly kind: 'drain-worker'; readonly id: string }
  | { readonly kind: 'drain-gateway'; readonly id: string; readonly url: string }
  | { readonly kind: 'pause' | 'resume'; readonly lane: LaneName }
  | { readonly kind: 'mark' | 'unmark' | 'rebuild'; readonly userId: number }
  | { readonly kind: 'scale'; readonly replicas: number };

/** Changes the number of workers in Kubernetes. Returns a sentence about the result. */
export type ScaleWorkers = (replicas: number, signal: AbortSignal) => Promise<string>;

/**
 * Performs an action. Returns a sentence about the result, and throws what the command of that name
 * throws.
 */
export async function performAction(
  cluster: Cluster,
  action: TopAction,
  options: { signal: AbortSignal; scale?: ScaleWorkers | undefined },
): Promise<string> {
  const { db, changes } = cluster;
  const { signal } = options;
  switch (action.kind) {
    case 'drain-worker': {
      await planWorkerDrain(db, action.id);
      const { seconds } = await drainWorker(db, action.id, { timeoutMs: DRAIN_TIMEOUT_MS, signal });
      return `the worker has left after ${seconds} s`;
    }
    case 'drain-gateway': {
      const { sockets, seconds } = await drainGateway(db, action, { timeoutMs: DRAIN_TIMEOUT_MS, signal });
      return `the gateway closed ${counted(sockets, 'socket')} and left after ${seconds} s`;
    }
    case 'pause': {
      const timeoutMs = PAUSE_TIMEOUT_MS;
      const { workers } = await pauseFanout(db, [action.lane], {
        reason: 'by top',
        dryRun: false,
        timeoutMs,
        signal,
      });
      const drained = `${workers.standing} of ${counted(workers.of, 'worker')} drained it`;
      return `the ${action.lane} lane is paused; ${drained}`;
    }
    case 'resume':
      await resumeFanout(db, [action.lane], { dryRun: false });
      return `the ${action.lane} lane is resumed`;
    case 'mark':
    case 'unmark': {
      const change = action.kind === 'mark' ? markCelebrity : unmarkCelebrity;
      const { changed, items } = await change(cluster, action.userId, { signal, pin: true });
      if (!changed) return `user ${action.userId} was already ${action.kind}ed`;
      const effect = action.kind === 'mark' ? 'removed' : 'added';
      return `user ${action.userId} is ${action.kind}ed: ${counted(items, 'row')} ${effect}`;
    }
    case 'rebuild': {
      const { items, added, removed } = await rebuild(db, action.userId, { signal, changes });
      const holds = `the feed of user ${action.userId} holds ${counted(items, 'row')}`;
      return `${holds}: ${added} added, ${removed} removed`;
    }
    case 'scale':
      if (!options.scale) throw new FeedctlError('USAGE', 'this context has no Kubernetes cluster');
      return options.scale(action.replicas, signal);
  }
}
