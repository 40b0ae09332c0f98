import { BaseCommand } from '../../cli/baseCommand.ts';
import { listFlags } from '../../cli/flags/output.ts';
import type { ShardStatus } from '../../engine/shards/list.ts';
import { formatBytes } from '../../ui/terminal/format.ts';

export default class ShardsStatus extends BaseCommand {
  static override summary = 'Show the progress of a rebalance, and moves that are stuck or failed';
  static override description =
    `Lists moves that fail or wait for a lock, shards on the wrong node, and data that Citus
has yet to drop.`;
  static override flags = listFlags;
  static override examples = ['<%= config.bin %> shards status', '<%= config.bin %> shards status --json'];

  async run(): Promise<ShardStatus> {
    const { flags } = await this.parse(ShardsStatus);
    const { shardStatus } = await import('../../engine/shards/list.ts');
    const status = await this.withCluster(flags, ({ db }) => shardStatus(db));
    const { job, active, troubles } = status;
    if (job) {
      const when = job.finishedAt ? `, ended ${job.finishedAt}` : '';
      this.log(
        `Job ${job.jobId}: ${job.state}, ${formatBytes(job.movedBytes)} of ${formatBytes(job.bytes)}${when}`,
      );
      const rows = job.moves.map((move) => [
        String(move.shard),
        formatBytes(move.bytes),
        move.from,
        move.to,
        move.phase ? `${move.state}: ${move.phase.toLowerCase()}` : move.state,
      ]);
      if (rows.length > 0) await this.table(['shard', 'size', 'from', 'to', 'state'], rows);
    } else this.log('No rebalance has been run.');
    for (const move of active)
      this.log(
        `Moving: shard ${move.shard ?? 'unknown'} from ${move.from} to ${move.to}, ` +
          `${move.phase.toLowerCase()}, ${formatBytes(move.bytes)} copied (process ${move.pid})`,
      );
    for (const { kind, detail, fix } of troubles)
      this.log(`${kind.toUpperCase().padEnd(8)} ${detail}\n         Try: ${fix}`);
    return status;
  }
}
