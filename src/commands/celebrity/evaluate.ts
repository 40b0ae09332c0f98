import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { celebrityRuleFlags, chosenCelebrityRule } from '../../cli/flags/celebrity.ts';
import type { AppliedEvaluation } from '../../engine/celebrities/apply.ts';
import type { Evaluation } from '../../engine/celebrities/evaluate.ts';
import { renderEvaluation } from '../../ui/tables/celebrities.ts';
import { formatCount } from '../../ui/terminal/format.ts';

type EvaluateResult = Evaluation & { readonly applied: AppliedEvaluation | null };

export default class CelebrityEvaluate extends BaseCommand {
  static override summary = 'Show what a celebrity threshold would change, and apply it';
  static override description =
    `Lists the authors who would become or stop being celebrities, with the feed rows saved
a day, the cost of reads, and storage. Authors marked or unmarked by hand are skipped.

--apply changes one author after the other; after an interruption, run it again.`;
  static override flags = {
    ...celebrityRuleFlags,
    days: Flags.integer({
      description: 'number of past days whose posts are counted',
      default: 7,
      min: 1,
      max: 30,
    }),
    limit: Flags.integer({
      description: 'maximum authors in the table; --json has all',
      default: 20,
      min: 0,
    }),
    apply: Flags.boolean({ description: 'mark and unmark the authors', exclusive: ['dry-run'] }),
    'dry-run': Flags.boolean({ description: 'change nothing, the same as without --apply' }),
  };
  static override examples = [
    '<%= config.bin %> celebrity evaluate --threshold 1000',
    '<%= config.bin %> celebrity evaluate --apply --json',
  ];

  protected override changes(flags: Record<string, unknown>): boolean {
    return flags.apply === true;
  }

  async run(): Promise<EvaluateResult> {
    const { flags } = await this.parse(CelebrityEvaluate);
    const { evaluateCelebrities } = await import('../../engine/celebrities/evaluate.ts');
    const { applyEvaluation } = await import('../../engine/celebrities/apply.ts');
    const { readCelebrityPolicy } = await import('../../engine/celebrities/policy.ts');
    const { signal } = this;
    const result = await this.withProgress('authors', (progress) =>
      this.withCluster(flags, async (cluster): Promise<EvaluateResult> => {
        const policy = await readCelebrityPolicy(cluster.db);
        const rule = chosenCelebrityRule(flags, policy);
        const evaluation = await evaluateCelebrities(cluster.db, rule, flags.days);
        if (!flags.apply) return { ...evaluation, applied: null };
        if (policy.automatic && (rule.threshold !== policy.threshold || rule.releaseAt !== policy.releaseAt))
          this.logToStderr('The automatic evaluation uses another threshold: see `celebrity policy`.');
        const applied = await applyEvaluation(cluster, rule, {
          signal,
          onResume: this.onResume,
          onProgress: (done, total) => progress.update({ done, total, unit: 'authors' }),
        });
        return { ...evaluation, applied };
      }),
    );
    this.log(renderEvaluation(result, { limit: flags.limit, applied: flags.apply, ...this.tableOptions }));
    const { applied } = result;
    if (applied) {
      this.log(`Marked ${formatCount(applied.marked)}, unmarked ${formatCount(applied.unmarked)}.`);
      for (const { userId, reason } of applied.failures) this.logToStderr(`User ${userId}: ${reason}`);
      if (applied.failed > 0) process.exitCode = 3;
    }
    return result;
  }
}
