import { BaseCommand } from '../../cli/baseCommand.ts';
import { kubeFlags } from '../../cli/flags/kubernetes.ts';
import { listFlags } from '../../cli/flags/output.ts';
import type { KubeStatus } from '../../engine/kubernetes/status.ts';
import { statusText } from '../../ui/tables/kubernetes.ts';

export default class ClusterStatus extends BaseCommand {
  static override summary = 'Show rollouts, pods, autoscalers and warnings in Kubernetes';
  static override description =
    'Shows the objects with the label app.kubernetes.io/part-of=feedctl. Exits 1 if a deployment has ' +
    'not rolled out, or if a Job, a pod or an autoscaler has a problem.\n\n' +
    '--watch --json prints one line per poll; a failed poll has `error` and is retried.';
  static override flags = {
    ...kubeFlags,
    ...listFlags,
  };
  static override examples = [
    '<%= config.bin %> cluster status',
    '<%= config.bin %> cluster status --namespace feedctl-dev --json',
  ];

  async run(): Promise<KubeStatus> {
    const { flags } = await this.parse(ClusterStatus);
    const { DEFAULT_NAMESPACE } = await import('../../engine/kubernetes/client.ts');
    const { kubeStatus } = await import('../../engine/kubernetes/status.ts');
    const status = await this.withKubernetes(flags, (kubernetes) =>
      kubeStatus(kubernetes, kubernetes.namespace ?? DEFAULT_NAMESPACE),
    );
    this.log(statusText(status, this.tableOptions));
    if (!status.healthy) process.exitCode = 1;
    return status;
  }
}
