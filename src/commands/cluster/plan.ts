import { Args } from '@oclif/core';
import { BaseCommand } from '../../cli/baseCommand.ts';
import { manifestFlags } from '../../cli/flags/kubernetes.ts';
import type { Plan } from '../../engine/kubernetes/plan.ts';
import { planLines } from '../../ui/tables/kubernetes.ts';

export const manifestsArg = Args.string({
  description: 'overlay of feedctl (dev, prod), a YAML file of rendered manifests, or - for stdin',
  required: true,
  ignoreStdin: true,
});

export default class ClusterPlan extends BaseCommand {
  static override summary = 'Show what `cluster apply` would change in Kubernetes';
  static override description =
    'The API server does a dry run of a server-side apply of each object, and the result is compared ' +
    'with the live object. Nothing is changed.\n\n' +
    'Exits 1 if the server would refuse an object.';
  static override args = { manifests: manifestsArg };
  static override flags = manifestFlags;
  static override examples = [
    '<%= config.bin %> cluster plan prod --image registry.example/feedctl:0.1.0',
    'kustomize build ./my-overlay | <%= config.bin %> cluster plan - --kube-context staging --json',
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
