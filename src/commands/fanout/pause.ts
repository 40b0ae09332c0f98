import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag } from '../../cli/flags/common.ts';
import { durationFlag } from '../../cli/flags/durations.ts';
import { laneFlag, lanesOf, reasonFlag } from '../../cli/flags/lanes.ts';
import type { Paused } from '../../engine/fanout/laneControl.ts';
import { counted } from '../../engine/model/counted.ts';
import { formatCount } from '../../ui/terminal/format.ts';

export default class FanoutPause extends BaseCommand {
  static override summary = 'Pause a lane of fan-out in all workers until it is resumed';
  static override description =
    `Waits until messages in flight are done; exits 3 if a worker is not drained at the
timeout. Posts are still accepted, and wait in the queues and the outbox.

Work that needs fan-out waits too: replay, celebrity mark, \`feed rebuild --all\`.`;
  static override flags = {
    lane: laneFlag,
    reason: reasonFlag,
    timeout: durationFlag({
      unit: 's',
      description: 'maximum wait for messages in flight',
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
      const left = workers.of - workers.standing;
      const some = `${formatCount(left)} of ${counted(workers.of, 'worker')} ${left === 1 ? 'is' : 'are'}`;
      this.logToStderr(`${some} not drained yet: see \`feedctl worker list\`.`);
      process.exitCode = 3;
    }
    return result;
  }
}
