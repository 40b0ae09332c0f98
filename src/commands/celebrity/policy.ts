import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { celebrityRuleFlags, chosenCelebrityRule } from '../../cli/flags/celebrity.ts';
import { dryRunFlag } from '../../cli/flags/common.ts';
import { secondsFlag } from '../../cli/flags/durations.ts';
import type { CelebrityPolicy } from '../../engine/celebrities/policy.ts';
import { FeedctlError } from '../../engine/model/errors.ts';
import { formatDuration } from '../../ui/terminal/format.ts';

interface PolicyResult extends CelebrityPolicy {
  /** End of the last automatic evaluation; null if there was none. */
  readonly evaluatedAt: Date | null;
  readonly changed: boolean;
  readonly dryRun: boolean;
}

const MIN_INTERVAL_SECONDS = 10;

export default class CelebrityPolicyCommand extends BaseCommand {
  static override summary = 'Show or change the threshold for celebrities, and automatic evaluation';
  static override description =
    `Without flags it only shows the policy. Authors with more followers than --threshold
are marked; those with at most --release-at are unmarked.

With --automatic one of the workers evaluates the authors, at the interval of --every.`;
  static override flags = {
    ...celebrityRuleFlags,
    automatic: Flags.boolean({ description: 'let a worker evaluate the authors', allowNo: true }),
    every: secondsFlag({ description: 'time between two automatic evaluations, such as 1h' }),
    'dry-run': dryRunFlag,
  };
  static override examples = [
    '<%= config.bin %> celebrity policy',
    '<%= config.bin %> celebrity policy --threshold 1000 --automatic --every 1h --json',
  ];

  protected override changes(flags: Record<string, unknown>): boolean {
    return super.changes(flags) && isChange(flags);
  }

  async run(): Promise<PolicyResult> {
    const { flags } = await this.parse(CelebrityPolicyCommand);
    const { automatic, every, 'dry-run': dryRun } = flags;
    const change = (policy: CelebrityPolicy): CelebrityPolicy => ({
      ...chosenCelebrityRule(flags, policy),
      automatic: automatic ?? policy.automatic,
      everySeconds: every ?? policy.everySeconds,
    });
    if (every !== undefined && every < MIN_INTERVAL_SECONDS)
      throw new FeedctlError('USAGE', `--every is at least ${MIN_INTERVAL_SECONDS} seconds`);
    const { changeCelebrityPolicy, lastEvaluation, readCelebrityPolicy } = await import(
      '../../engine/celebrities/policy.ts'
    );
    const result = await this.withCluster(flags, async ({ db }): Promise<PolicyResult> => {
      const before = await readCelebrityPolicy(db);
      const policy = !isChange(flags)
        ? before
        : dryRun
          ? change(before)
          : await changeCelebrityPolicy(db, change);
      const changed = JSON.stringify(policy) !== JSON.stringify(before);
      return { ...policy, evaluatedAt: await lastEvaluation(db), changed, dryRun };
    });
    const last = result.evaluatedAt
      ? `the last one ended at ${result.evaluatedAt.toISOString()}`
      : 'none yet';
    const lines = [
      ['marked above', `${result.threshold} followers`],
      ['unmarked at', `${result.releaseAt} followers and fewer`],
      ['automatic', result.automatic ? `every ${formatDuration(result.everySeconds)}, ${last}` : 'off'],
    ];
    if (dryRun && result.changed) this.log('The policy would be:');
    this.log(lines.map(([name, value]) => `${name!.padEnd(14)}${value}`).join('\n'));
    return result;
  }
}

const isChange = (flags: Record<string, unknown>): boolean =>
  ['threshold', 'release-at', 'automatic', 'every'].some((name) => flags[name] !== undefined);
