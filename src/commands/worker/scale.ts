import { Args, Flags } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { dryRunFlag, yesFlag } from '../../cli/flags/common.ts';
import { kubeFlags } from '../../cli/flags/kubernetes.ts';
import type { ScalePlan, ScaleRequest } from '../../engine/kubernetes/scale.ts';
import { FeedctlError } from '../../engine/model/errors.ts';

export default class WorkerScale extends BaseCommand {
  static override summary = 'Set the number of workers in Kubernetes';
  static override description =
    'If KEDA scales the workers, feedctl pauses KEDA at this number, because KEDA would undo it; --auto ' +
    'resumes KEDA. Removed workers drain first. Scaling to 0 asks for confirmation.\n\n' +
    '--min and --max change the bounds of the autoscaler; `cluster apply` with other bounds is then a ' +
    'conflict.';
  static override args = {
    replicas: Args.integer({ description: 'number of workers', min: 0, max: 10_000 }),
  };
  static override flags = {
    ...kubeFlags,
    auto: Flags.boolean({ description: 'resume KEDA', exclusive: ['min', 'max'] }),
    min: Flags.integer({ description: 'minimum number of workers of the autoscaler', min: 0 }),
    max: Flags.integer({ description: 'maximum number of workers of the autoscaler', min: 1 }),
    'dry-run': dryRunFlag,
    yes: yesFlag,
  };
  static override examples = [
    '<%= config.bin %> worker scale 12',
    '<%= config.bin %> worker scale --auto',
    '<%= config.bin %> worker scale --min 10 --max 60 --json',
  ];

  async run(): Promise<ScalePlan & { dryRun: boolean }> {
    const { args, flags } = await this.parse(WorkerScale);
    const request = requestOf(args.replicas, flags);
    const { DEFAULT_NAMESPACE } = await import('../../engine/kubernetes/client.ts');
    const { planScale, scale } = await import('../../engine/kubernetes/scale.ts');
    return this.withKubernetes(flags, async (kubernetes) => {
      const dryRun = flags['dry-run'];
      const change = await planScale(kubernetes, kubernetes.namespace ?? DEFAULT_NAMESPACE, request);
      if (request.to === 'replicas' && request.replicas === 0 && !dryRun)
        await this.confirm('Without workers no post reaches a feed. Scale to 0?', flags.yes ?? false);
      await scale(kubernetes, change, { dryRun });
      this.log(`${dryRun ? 'Would do: ' : ''}${change.plan.change}.`);
      return { ...change.plan, dryRun };
    });
  }
}

function requestOf(
  replicas: number | undefined,
  { auto, min, max }: { auto?: boolean | undefined; min?: number | undefined; max?: number | undefined },
): ScaleRequest {
  const bounds = min !== undefined || max !== undefined;
  if ([replicas !== undefined, auto === true, bounds].filter(Boolean).length !== 1)
    throw new FeedctlError('USAGE', 'pass either a number of workers, or --auto, or --min and --max');
  if (replicas !== undefined) return { to: 'replicas', replicas };
  return bounds ? { to: 'bounds', min, max } : { to: 'auto' };
}
