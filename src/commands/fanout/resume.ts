import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag } from '../../cli/flags/common.ts';
import { laneFlag, lanesOf } from '../../cli/flags/lanes.ts';
import type { LaneChange } from '../../engine/fanout/laneControl.ts';

export default class FanoutResume extends BaseCommand {
  static override summary = 'Resume a paused lane';
  static override description = `Workers continue within a second. A rate set by \`fanout throttle\` stays.`;
  static override flags = { lane: laneFlag, 'dry-run': dryRunFlag };
  static override examples = [
    '<%= config.bin %> fanout resume --lane bulk',
    '<%= config.bin %> fanout resume --lane all --json',
  ];

  async run(): Promise<LaneChange> {
    const { flags } = await this.parse(FanoutResume);
    const { resumeFanout } = await import('../../engine/fanout/laneControl.ts');
    const dryRun = flags['dry-run'];
    const result = await this.withCluster(flags, ({ db }) =>
      resumeFanout(db, lanesOf(flags.lane), { dryRun }),
    );
    if (result.changed.length === 0) this.log('Not paused.');
    else this.log(`${dryRun ? 'Would resume' : 'Resumed'} ${result.changed.join(' and ')}.`);
    await this.logLanes(result.lanes);
    return result;
  }
}
