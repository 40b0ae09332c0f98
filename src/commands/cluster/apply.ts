import { Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag, yesFlag } from '../../cli/flags/common.ts';
import { manifestFlags, timeoutFlag, waitFlag } from '../../cli/flags/kubernetes.ts';
import type { PlannedObject } from '../../engine/kubernetes/plan.ts';
import type { PruneCandidate } from '../../engine/kubernetes/prune.ts';
import type { Rollout } from '../../engine/kubernetes/rollout.ts';
import { FeedctlError } from '../../engine/model/errors.ts';
import { planLines, rolloutLine } from '../../ui/tables/kubernetes.ts';
import { manifestsArg } from './plan.ts';

interface ApplyResult {
  server: string;
  namespace: string;
  objects: readonly PlannedObject[];
  /** Secrets that pods wait for. */
  missingSecrets: readonly string[];
  /** Deployments, as they were when it ended; none where nothing was waited for. */
  rollouts: readonly Rollout[];
  /** Objects of earlier manifests, as they were before. */
  leftovers: readonly PruneCandidate[];
  /** Those of them that were deleted. */
  pruned: readonly PruneCandidate[];
  seconds: number;
  dryRun: boolean;
}

export default class ClusterApply extends BaseCommand {
  static override summary = 'Apply manifests to Kubernetes';
  static override description =
    `Shows the plan, asks for confirmation, and applies it on the server side as field
manager \`feedctl\`: the migration first, then deployments and autoscalers.

Fields of other managers conflict unless --force-conflicts is given. --prune deletes
objects that the manifests no longer contain.`;
  static override args = { manifests: manifestsArg };
  static override flags = {
    ...manifestFlags,
    prune: Flags.boolean({
      description: 'delete objects that the manifests no longer contain, after confirmation',
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
  ];

  /** Of a production cluster the name is asked for when the plan has been shown. */
  protected override changes(): boolean {
    return false;
  }

  async run(): Promise<ApplyResult> {
    const { args, flags } = await this.parse(ClusterApply);
    const { applyPlan, readPlan } = await import('../../engine/kubernetes/apply.ts');
    const { checkComplete: areWhole } = await import('../../engine/kubernetes/prune.ts');
    const { refusalOf } = await import('../../engine/kubernetes/plan.ts');
    const startedAt = performance.now();
    return this.withKubernetes(flags, async (kubernetes, config) => {
      const { 'dry-run': dryRun, 'force-conflicts': forceConflicts, image, wait, prune } = flags;
      // Pods that still go would miss what their revision needs.
      if (prune && !wait)
        throw new FeedctlError('USAGE', '--prune waits for the rollout: leave --no-wait away');
      const { namespace } = config;
      const { plan, manifests } = await readPlan(kubernetes, args.manifests, {
        namespace,
        image,
        forceConflicts,
      });
      if (prune && !areWhole(manifests))
        throw new FeedctlError(
          'USAGE',
          `${args.manifests} is a part of feedctl: --prune would take the rest for left over`,
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
        prune && plan.leftovers.length > 0 ? `, and delete ${plan.leftovers.length} object(s) there` : '';
      await this.confirm(`Apply this to ${plan.namespace} at ${plan.server}${deleting}?`, asked);
      let said = '';
      const applied = await applyPlan(kubernetes, manifests, plan, {
        forceConflicts,
        wait,
        prune,
        timeoutMs: flags.timeout * 1_000,
        onStep: (step) => this.logToStderr(step),
        onProgress: (rollouts) => {
          const text = rollouts.map(rolloutLine).join('; ');
          if (text !== said) this.logToStderr(text);
          said = text;
        },
      });
      this.log(`Applied to ${plan.namespace}.`);
      const seconds = Math.round((performance.now() - startedAt) / 100) / 10;
      return { ...result, ...applied, seconds };
    });
  }
}
