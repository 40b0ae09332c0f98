import { Args } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { manifestFlags } from '../../cli/flags/kubernetes.ts';
import type { Plan } from '../../engine/kubernetes/plan.ts';
import { planLines } from '../../ui/tables/kubernetes.ts';

export const manifestsArg = Args.string({
  description: 'overlay of feedctl (dev, prod), directory with a kustomization, or file',
  required: true,
});

export default class ClusterPlan extends BaseCommand {
  static override summary = 'Show what `cluster apply` would change in Kubernetes';
  static override description =
    `Asks the API server for a dry run of the server-side apply of each object. Changes
nothing, and exits 1 if the server would refuse something.`;
  static override args = { manifests: manifestsArg };
  static override flags = manifestFlags;
  static override examples = [
    '<%= config.bin %> cluster plan prod --image registry.example/feedctl:0.1.0',
    '<%= config.bin %> cluster plan ./my-overlay --kube-context staging --json',
  ];

  async run(): Promise<Plan> {
    const { args, flags } = await this.parse(ClusterPlan);
    const { readPlan } = await import('../../engine/kubernetes/apply.ts');
    const { plan } = await this.withKubernetes(flags, (kubernetes, { namespace }) =>
      readPlan(kubernetes, args.manifests, {
        namespace,
        image: flags.image,
        forceConflicts: flags['force-conflicts'],
      }),
    );
    for (const line of planLines(plan)) this.log(line);
    if (plan.objects.some(({ action }) => action === 'refused')) process.exitCode = 1;
    return plan;
  }
}
