import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { celebrityRuleFlags, chosenCelebrityRule } from '../../cli/flags/celebrity.ts';
import type { AppliedEvaluation } from '../../engine/celebrities/apply.ts';
import type { Evaluation } from '../../engine/celebrities/evaluate.ts';
import { renderEvaluation } from '../../ui/tables/celebrities.ts';
import { formatCount } from '../../ui/terminal/format.ts';

type EvaluateResult = Evaluation & { readonly applied: AppliedEvaluation | null };

export default class CelebrityEvaluate extends BaseCommand {
  static override summary =
    'Show what a threshold would change and what that is worth, and with --apply change it';
  static override description =
    'Who would become a celebrity and who would be none any more: feed rows saved a day by the posts of the last days, what reads cost more, storage. Without flags the threshold is that of `celebrity policy`. Authors who were marked or unmarked by hand stay as they are (`celebrity unpin`). --apply changes one author after the other; run it again after an interruption, it goes on.';
  static override flags = {
    ...celebrityRuleFlags,
    days: Flags.integer({ description: 'count the posts of so many days', default: 7, min: 1, max: 30 }),
    limit: Flags.integer({ description: 'authors in the table; --json has all', default: 20, min: 0 }),
    apply: Flags.boolean({ description: 'mark and unmark them', exclusive: ['dry-run'] }),
    'dry-run': Flags.boolean({ description: 'change nothing, as without --apply' }),
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
          this.logToStderr('The automatic evaluation goes by another threshold: see `celebrity policy`.');
        const applied = await applyEvaluation(cluster, rule, {
          signal,
          onResume: this.onResume,
          onProgress: (done, total) => progress.update({ done, total, unit: 'authors' }),
        });
        return { ...evaluation, applied };
      }),
    );
    this.log(renderEvaluation(result, { limit: flags.limit, borders: Boolean(process.stdout.isTTY) }));
    const { applied } = result;
    if (applied) {
      this.log(`Marked ${formatCount(applied.marked)}, unmarked ${formatCount(applied.unmarked)}.`);
      for (const { userId, reason } of applied.failures) this.logToStderr(`User ${userId}: ${reason}`);
      if (applied.failed > 0) process.exitCode = 3;
    }
    return result;
  }
}
