import { Args } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag, yesFlag } from '../../cli/flags/common.ts';
import type { MoveResult } from '../../engine/shards/move.ts';
import { formatBytes, formatDuration } from '../../ui/terminal/format.ts';

export default class ShardsMove extends BaseCommand {
  static override summary = 'Move one shard to a node, while everything runs';
  static override description =
    'The shard’s rows of every table move together. Unlike a rebalance it ends with this command: Ctrl-C undoes it.';
  static override args = {
    shard: Args.integer({ description: 'id of the shard, of whichever table', required: true, min: 1 }),
    node: Args.string({ description: 'where to, host:port', required: true }),
  };
  static override flags = { 'dry-run': dryRunFlag, yes: yesFlag };
  static override examples = [
    '<%= config.bin %> shards move 102008 db3.example:5432',
    '<%= config.bin %> shards move 102008 db3.example:5432 --yes --json',
  ];

  async run(): Promise<MoveResult & { dryRun: boolean }> {
    const { args, flags } = await this.parse(ShardsMove);
    const { moveShard, planMove } = await import('../../engine/shards/move.ts');
    const dryRun = flags['dry-run'];
    const { signal } = this;
    return this.withCluster(flags, async ({ db }) => {
      const { fromNode, toNode, ...move } = await planMove(db, args.shard, args.node);
      const what = `shard ${move.shard}, ${formatBytes(move.bytes)}, from ${move.from} to ${move.to}`;
      if (fromNode === toNode) {
        this.log(`Nothing to change: shard ${move.shard} is at ${move.to}.`);
        return { ...move, moved: false, seconds: 0, dryRun };
      }
      if (dryRun) {
        this.log(`Would move ${what}.`);
        return { ...move, moved: false, seconds: 0, dryRun };
      }
      await this.confirm(`Move ${what}?`, flags.yes ?? false);
      const progress = this.progress('moving');
      const result = await moveShard(db, args.shard, args.node, {
        signal,
        onProgress: (done, total, phase) =>
          progress.update({ done, total, unit: 'bytes', note: phase.toLowerCase() }),
      }).finally(() => progress.end());
      this.log(`Moved ${what}, in ${formatDuration(result.seconds)}.`);
      return { ...result, dryRun };
    });
  }
}
