import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag } from '../../cli/flags/common.ts';
import { laneFlag, lanesOf, reasonFlag } from '../../cli/flags/lanes.ts';
import type { Paused } from '../../engine/fanout/laneControl.ts';
import { formatCount } from '../../ui/terminal/format.ts';

export default class FanoutPause extends BaseCommand {
  static override summary = 'Have all workers stop taking posts of a lane to feeds, until it is resumed';
  static override description =
    'Noted in the database: it holds for workers that start later too. What is in hand is finished, and the command waits for that; exit 3 where a worker has not got so far at the timeout. Posts are still taken and wait in the queues, and in the outbox once those are full. Follows, unfollows and deletions wait too; readers see what is true all the same, as pages are checked against follows and posts. Whatever waits for fan-out waits until it is resumed: celebrity mark and unmark, replay, cleanups; `feed rebuild --all` and `--file` wait for the bulk lane. With both lanes cleanups stand as well.';
  static override flags = {
    lane: laneFlag,
    reason: reasonFlag,
    timeout: Flags.integer({
      description: 'seconds to wait for what workers have in hand',
      default: 30,
      min: 0,
    }),
    'dry-run': dryRunFlag,
  };
  static override examples = [
    '<%= config.bin %> fanout pause --lane bulk --reason "import went wrong"',
    '<%= config.bin %> fanout pause --lane all --json',
  ];

  async run(): Promise<Paused> {
    const { flags } = await this.parse(FanoutPause);
    const { pauseFanout } = await import('../../engine/fanout/laneControl.ts');
    const { signal } = this;
    const dryRun = flags['dry-run'];
    const lanes = lanesOf(flags.lane);
    const result = await this.withCluster(flags, ({ db }) =>
      pauseFanout(db, lanes, {
        reason: flags.reason ?? null,
        dryRun,
        timeoutMs: flags.timeout * 1_000,
        signal,
      }),
    );
    const { changed, workers } = result;
    if (changed.length === 0) this.log('Paused already.');
    else this.log(`${dryRun ? 'Would pause' : 'Paused'} ${changed.join(' and ')}.`);
    await this.logLanes(result.lanes);
    if (!dryRun && workers.standing < workers.of) {
      this.logToStderr(
        `${formatCount(workers.of - workers.standing)} of ${formatCount(workers.of)} worker(s) have not said yet that they stand: see \`feedctl worker list\`.`,
      );
      process.exitCode = 3;
    }
    return result;
  }
}
