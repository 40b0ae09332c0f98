import type { Cluster } from '../engine/cluster/cluster.ts';
import { counted } from '../engine/model/counted.ts';
import type { JobStatus } from '../engine/shards/list.ts';
import type { RebalancePlan, RebalanceResult } from '../engine/shards/rebalance.ts';
import { movesTable, nodesTable } from '../ui/tables/shards.ts';
import { formatBytes, formatDuration } from '../ui/terminal/format.ts';
import type { ProgressLine } from '../ui/terminal/progress.ts';
import { BaseCommand } from './baseCommand.ts';

export interface RebalanceOutcome extends RebalanceResult {
  readonly dryRun: boolean;
}

/** Base of the commands that move shards: `shards plan`, `shards rebalance` and `node drain`. */
export abstract class RebalanceCommand extends BaseCommand {
  /** Plans, asks for confirmation, and follows the job to its end. */
  protected async rebalance(
    { db }: Cluster,
    options: { drainNode?: string; drainOnly: boolean; dryRun: boolean; yes: boolean | undefined },
  ): Promise<RebalanceOutcome> {
    const { planRebalance, rebalance } = await import('../engine/shards/rebalance.ts');
    const { signal } = this;
    const { dryRun } = options;
    const plan = await planRebalance(db, options);
    if (dryRun) {
      this.showPlan(plan);
      return { dryRun, jobId: null, moves: plan.moves, bytes: plan.bytes, seconds: 0, nodes: plan.nodes };
    }
    // The engine refuses a move that is impossible, and follows a job that is running.
    if (plan.missing.length === 0 && plan.running === null && (plan.moves.length > 0 || options.drainNode)) {
      const what = `Move ${counted(plan.moves.length, 'shard')}, ${formatBytes(plan.bytes)}`;
      const off = options.drainNode ? `, and give ${options.drainNode} no more` : '';
      await this.confirm(`${what}${off}?`, options.yes);
    }
    const result = await this.withProgress('moving shards', (progress) =>
      rebalance(db, { ...options, signal, onProgress: jobProgress(progress) }),
    );
    const size = formatBytes(result.bytes);
    const time = formatDuration(result.seconds);
    if (result.moves.length === 0) this.log('Nothing to move.');
    else this.log(`Moved ${counted(result.moves.length, 'shard')}, ${size}, in ${time}.`);
    this.log(nodesTable(result.nodes, this.tableOptions));
    return { dryRun, ...result };
  }

  protected showPlan({ moves, bytes, missing, running }: RebalancePlan): void {
    if (moves.length === 0 && missing.length === 0) this.log('Nothing to move.');
    if (moves.length > 0) {
      this.log(movesTable(moves, this.tableOptions));
      this.log(`Would move ${counted(moves.length, 'shard')}, ${formatBytes(bytes)}.`);
    }
    if (running !== null) this.log(`Job ${running} is running: see \`feedctl shards status\`.`);
    for (const { what, fix } of missing) this.log(`MISSING  ${what}\n         Try: ${fix}`);
  }
}

/** Shows bytes on the progress line. A log also gets a line when a move starts, ends or fails. */
function jobProgress(progress: ProgressLine): (status: JobStatus) => void {
  const logged = new Map<number, string>();
  return ({ jobId, moves, bytes, movedBytes }) => {
    for (const { shard, state, from, to } of moves) {
      if (process.stderr.isTTY || state === 'waiting' || logged.get(shard) === state) continue;
      logged.set(shard, state);
      process.stderr.write(`job ${jobId}: shard ${shard} from ${from} to ${to}: ${state}\n`);
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
