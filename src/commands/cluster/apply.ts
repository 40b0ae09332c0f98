import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag, yesFlag } from '../../cli/flags/common.ts';
import { manifestFlags, timeoutFlag, waitFlag } from '../../cli/flags/kubernetes.ts';
import type { PlannedObject } from '../../engine/kubernetes/plan.ts';
import type { PruneCandidate } from '../../engine/kubernetes/prune.ts';
import type { Rollout } from '../../engine/kubernetes/rollout.ts';
import { counted } from '../../engine/model/counted.ts';
import { FeedctlError } from '../../engine/model/errors.ts';
import { planLines, rolloutLine } from '../../ui/tables/kubernetes.ts';
import { manifestsArg } from './plan.ts';

interface ApplyResult {
  server: string;
  namespace: string;
  objects: readonly PlannedObject[];
  /** Secrets that pods need and that are missing. */
  missingSecrets: readonly string[];
  /** Deployments at the end of the rollout; none with --no-wait. */
  rollouts: readonly Rollout[];
  /** Objects of earlier manifests that these do not hold, before the apply. */
  leftovers: readonly PruneCandidate[];
  /** Leftovers that were deleted. */
  pruned: readonly PruneCandidate[];
  seconds: number;
  dryRun: boolean;
}

export default class ClusterApply extends BaseCommand {
  static override summary = 'Apply manifests to Kubernetes';
  static override description =
    'Shows the plan, asks, and applies server-side as the field manager `feedctl`. The migration ends ' +
    'before the deployments roll out.\n\n' +
    'A field that another manager owns is a conflict. Objects that are no longer in the manifests are ' +
    'deleted with --prune only.';
  static override args = { manifests: manifestsArg };
  static override flags = {
    ...manifestFlags,
    prune: Flags.boolean({
      description: 'after the rollout, delete objects that are no longer in the manifests',
      default: false,
    }),
    wait: waitFlag,
    timeout: timeoutFlag,
    'dry-run': dryRunFlag,
    yes: yesFlag,
  };
  static override examples = [
    '<%= config.bin %> cluster apply dev --image feedctl:dev',
    '<%= config.bin %> cluster apply prod --image registry.example/feedctl:0.1.0 --yes --timeout 900 --json',
    '<%= config.bin %> cluster apply prod --prune',
    'kustomize build ./my-overlay | <%= config.bin %> cluster apply - --yes',
  ];

  /** False: `run` asks for the name of a production cluster after it has shown the plan. */
  protected override changes(): boolean {
    return false;
  }

  async run(): Promise<ApplyResult> {
    const { args, flags } = await this.parse(ClusterApply);
    const { applyPlan, readPlan } = await import('../../engine/kubernetes/apply.ts');
    const { checkComplete } = await import('../../engine/kubernetes/prune.ts');
    const { refusalOf } = await import('../../engine/kubernetes/plan.ts');
    const startedAt = performance.now();
    return this.withKubernetes(flags, async (kubernetes, config) => {
      const { 'dry-run': dryRun, 'force-conflicts': forceConflicts, image, wait, prune } = flags;
      // Pods of the old revision still need what would be deleted.
      if (prune && !wait)
        throw new FeedctlError('USAGE', '--prune deletes after the rollout: it cannot run with --no-wait');
      const { namespace } = config;
      const { plan, manifests } = await readPlan(kubernetes, args.manifests, {
        namespace,
        image,
        forceConflicts,
      });
      if (prune && !checkComplete(manifests))
        throw new FeedctlError(
          'USAGE',
          'the manifests have no deployment of feedctl: --prune would delete everything else',
        );
      for (const line of planLines(plan, { prune })) this.logToStderr(line);
      const refusal = refusalOf(plan);
      if (refusal) throw refusal;
      const result = {
        server: plan.server,
        namespace: plan.namespace,
        missingSecrets: plan.missingSecrets,
        leftovers: plan.leftovers,
        dryRun,
      };
      if (dryRun) return { ...result, objects: plan.objects, rollouts: [], pruned: [], seconds: 0 };
      await this.confirmProduction(config, flags);
      const asked = config.production || flags.yes === true;
      const deleting =
        prune && plan.leftovers.length > 0
          ? `, and delete ${counted(plan.leftovers.length, 'object')} there`
          : '';
      await this.confirm(`Apply this to ${plan.namespace} at ${plan.server}${deleting}?`, asked);
      let printed = '';
      const applied = await applyPlan(kubernetes, manifests, plan, {
        forceConflicts,
        wait,
        prune,
        timeoutMs: flags.timeout * 1_000,
        onStep: (step) => this.logToStderr(step),
        onProgress: (rollouts) => {
          const text = rollouts.map(rolloutLine).join('; ');
          if (text !== printed) this.logToStderr(text);
          printed = text;
        },
      });
      this.log(`Applied to ${plan.namespace}.`);
      const seconds = Math.round((performance.now() - startedAt) / 100) / 10;
      return { ...result, ...applied, seconds };
    });
  }
}
