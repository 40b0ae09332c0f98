import type { Cluster } from '../engine/cluster/cluster.ts';
import type { JobStatus } from '../engine/shards/list.ts';
import type { RebalancePlan, RebalanceResult } from '../engine/shards/rebalance.ts';
import { movesTable, nodesTable } from '../ui/tables/shards.ts';
import { formatBytes, formatDuration } from '../ui/terminal/format.ts';
import type { ProgressLine } from '../ui/terminal/progress.ts';
import { BaseCommand } from './baseCommand.ts';

export interface RebalanceOutcome extends RebalanceResult {
  readonly dryRun: boolean;
}

/** `shards rebalance` and `node drain`: the same work, towards another end. */
export abstract class RebalanceCommand extends BaseCommand {
  /** Plans, asks, and follows the job to its end. */
  protected async rebalance(
    { db }: Cluster,
    options: { drainNode?: string; drainOnly: boolean; dryRun: boolean; yes: boolean },
  ): Promise<RebalanceOutcome> {
    const { planRebalance, rebalance } = await import('../engine/shards/rebalance.ts');
    const { signal } = this;
    const { dryRun } = options;
    const plan = await planRebalance(db, options);
    if (dryRun) {
      this.showPlan(plan);
      return { dryRun, jobId: null, moves: plan.moves, bytes: plan.bytes, seconds: 0, nodes: plan.nodes };
    }
    // Where it cannot be done, or is being done, the engine says so: there is nothing to ask.
    if (plan.missing.length === 0 && plan.running === null && (plan.moves.length > 0 || options.drainNode)) {
      const what = `Move ${plan.moves.length} shard(s), ${formatBytes(plan.bytes)}`;
      const off = options.drainNode ? `, and give ${options.drainNode} no more` : '';
      await this.confirm(`${what}${off}?`, options.yes);
    }
    const progress = this.progress('moving shards');
    const report = jobProgress(progress, (text) => {
      if (!process.stderr.isTTY) process.stderr.write(`${text}\n`);
    });
    const result = await rebalance(db, { ...options, signal, onProgress: report }).finally(() =>
      progress.end(),
    );
    this.log(
      result.moves.length === 0
        ? 'Nothing to move.'
        : `Moved ${result.moves.length} shard(s), ${formatBytes(result.bytes)}, in ${formatDuration(result.seconds)}.`,
    );
    this.log(nodesTable(result.nodes, { borders: Boolean(process.stdout.isTTY) }));
    return { dryRun, ...result };
  }

  protected showPlan({ moves, bytes, missing, running }: RebalancePlan): void {
    if (moves.length === 0 && missing.length === 0) this.log('Nothing to move.');
    if (moves.length > 0) {
      this.log(movesTable(moves, { borders: Boolean(process.stdout.isTTY) }));
      this.log(`Would move ${moves.length} shard(s), ${formatBytes(bytes)}.`);
    }
    if (running !== null) this.log(`Job ${running} is running: see \`feedctl shards status\`.`);
    for (const { what, fix } of missing) this.log(`MISSING  ${what}\n         Try: ${fix}`);
  }
}

/** Bytes on the progress line; each move in a line of its own for a log. */
function jobProgress(progress: ProgressLine, log: (text: string) => void): (status: JobStatus) => void {
  const told = new Map<number, string>();
  return ({ jobId, moves, bytes, movedBytes }) => {
    for (const { shard, state, from, to } of moves) {
      if (state === 'waiting' || told.get(shard) === state) continue;
      told.set(shard, state);
      log(`job ${jobId}: shard ${shard} from ${from} to ${to}: ${state}`);
    }
    const done = moves.filter((move) => move.state === 'done').length;
    const now = moves.find((move) => move.phase !== null);
    progress.update({
      done: movedBytes,
      total: bytes,
      unit: 'bytes',
      note: `${done} of ${moves.length} shards${now ? `, ${now.shard}: ${now.phase!.toLowerCase()}` : ''}`,
    });
  };
}
