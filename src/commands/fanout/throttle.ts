import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag } from '../../cli/flags/common.ts';
import { laneFlag, lanesOf, reasonFlag } from '../../cli/flags/lanes.ts';
import type { LaneChange } from '../../engine/fanout/laneControl.ts';
import { FeedctlError } from '../../engine/model/errors.ts';
import { formatCount } from '../../ui/terminal/format.ts';

/** RabbitMQ takes unacked messages back after 30 minutes: a lower rate could not finish those in flight. */
const MIN_ROWS_PER_SECOND = 1_000;
const MAX_ROWS_PER_SECOND = 1_000_000_000;

const rateFlag = Flags.custom<number | 'none'>({
  helpValue: '<rows|none>',
  parse: async (text) => {
    if (text === 'none') return 'none';
    const rate = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
    if (!(rate >= MIN_ROWS_PER_SECOND && rate <= MAX_ROWS_PER_SECOND))
      throw new FeedctlError(
        'USAGE',
        `${JSON.stringify(text)} is not a number of rows a second from ${MIN_ROWS_PER_SECOND} to ` +
          `${MAX_ROWS_PER_SECOND}, or none`,
        { suggestions: ['To stop a lane, use `feedctl fanout pause`.'] },
      );
    return rate;
  },
});

export default class FanoutThrottle extends BaseCommand {
  static override summary = 'Limit how many feed rows a lane writes a second, in the whole cluster';
  static override description =
    `The limit stays until --rate none. Live workers share it evenly, in the bulk lane also
with each running \`feed rebuild --all\` or \`--file\`. An unused share is lost.

A message is written as a whole, up to 8,192 rows.`;
  static override flags = {
    lane: laneFlag,
    rate: rateFlag({
      description: 'rows a second of each lane, at least 1,000; none: no limit',
      required: true,
    }),
    reason: reasonFlag,
    'dry-run': dryRunFlag,
  };
  static override examples = [
    '<%= config.bin %> fanout throttle --lane bulk --rate 20000 --reason "rush hour"',
    '<%= config.bin %> fanout throttle --lane bulk --rate none --json',
  ];

  async run(): Promise<LaneChange> {
    const { flags } = await this.parse(FanoutThrottle);
    const { throttleFanout } = await import('../../engine/fanout/laneControl.ts');
    const dryRun = flags['dry-run'];
    const rate = flags.rate === 'none' ? null : flags.rate;
    const result = await this.withCluster(flags, ({ db }) =>
      throttleFanout(db, lanesOf(flags.lane), rate, { reason: flags.reason ?? null, dryRun }),
    );
    const to = rate === null ? 'no limit' : `${formatCount(rate)} rows/s`;
    if (result.changed.length === 0) this.log(`Nothing to change: ${to} already.`);
    else this.log(`${dryRun ? 'Would set' : 'Set'} ${result.changed.join(' and ')} to ${to}.`);
    await this.logLanes(result.lanes);
    return result;
  }
}
